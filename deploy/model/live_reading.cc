#include "deploy/model/live_reading.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "deploy/model/text_model.h"
#include "proto/base/status_macros.h"

namespace engram::model {

absl::StatusOr<KnownTables> KnownTables::Open(const std::vector<std::string>& checkpoints) {
  if (checkpoints.empty()) return absl::InvalidArgumentError("no tables that rows may be of");
  KnownTables tables;
  for (const std::string& checkpoint : checkpoints) {
    ASSIGN_OR_RETURN(tables.tables_.emplace_back(), OpenMemory(checkpoint));
    tables.names_.push_back(checkpoint);
  }
  return tables;
}

absl::StatusOr<std::string> KnownTables::TableOf(std::span<const uint32_t> tokens,
                                                 RowsAhead& rows) const {
  std::vector<bool> all(tables_.size(), true);
  std::vector<std::string> said;
  for (uint32_t layer : tables_.front()->geometry().params().layer_ids) {
    ASSIGN_OR_RETURN(const std::span<const uint8_t> received, rows.Wait(layer));
    std::vector<std::string> whose;
    for (size_t i = 0; i < tables_.size(); ++i) {
      LookBack start;
      ASSIGN_OR_RETURN(const std::unique_ptr<RowsAhead> own, tables_[i]->Fetch(tokens, start));
      ASSIGN_OR_RETURN(const std::span<const uint8_t> expected, own->Wait(layer));
      const bool same =
          std::equal(received.begin(), received.end(), expected.begin(), expected.end());
      if (same) whose.push_back(names_[i]);
      all[i] = all[i] && same;
    }
    said.push_back(absl::StrCat("layer ", layer, ": ",
                                whose.empty() ? "of none" : absl::StrJoin(whose, " or ")));
  }
  const auto found = std::find(all.begin(), all.end(), true);
  if (found != all.end()) return names_[static_cast<size_t>(found - all.begin())];
  return absl::DataLossError(
      absl::StrCat("a step's rows are not all of one table; ", absl::StrJoin(said, "; ")));
}

absl::Status ReadLive(const Decoder& decoder, Memory& memory, const KnownTables& tables,
                      absl::string_view text, const std::function<void(const LiveStep&)>& each,
                      const std::function<bool()>& stop) {
  size_t step = 0;
  do {
    const auto look = [&](const WindowRead& window) -> absl::Status {
      ASSIGN_OR_RETURN(std::string table, tables.TableOf(window.tokens, *window.rows));
      each({step++, window.begin / kWindow, window.nats, std::move(table)});
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(Read(decoder, &memory, text, look).status());
  } while (!stop());
  return absl::OkStatus();
}

}  // namespace engram::model

#include "deploy/engramctl/publisher.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/change_generations.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
// The last piece is answered when the server has loaded the whole part and it lasts.
constexpr absl::Duration kPublishTimeout = absl::Minutes(10);

bool Holds(const std::vector<RowRange>& ranges, uint32_t layer, uint64_t row) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const RowRange& range) {
    return range.layer == layer && range.begin <= row && row < range.end;
  });
}

}  // namespace

const GenerationStatus* FindGeneration(const ServerStatus& server, const Sha256& digest) {
  const auto it = std::find_if(server.generations.begin(), server.generations.end(),
                               [&](const GenerationStatus& each) { return each.digest == digest; });
  return it == server.generations.end() ? nullptr : &*it;
}

absl::Status Publisher::Run() {
  ASSIGN_OR_RETURN(auto delta, DeltaReader::Open(path_));
  target_ = delta->header().target;
  if (!delta->header().whole()) {
    return absl::InvalidArgumentError(absl::StrCat(path_, " is a part of a delta"));
  }
  RETURN_IF_ERROR(ChooseServers(delta->header()));
  RETURN_IF_ERROR(Count(*delta));
  ASSIGN_OR_RETURN(delta, DeltaReader::Open(path_));
  return SendAll(*delta);
}

absl::Status Publisher::ChooseServers(const DeltaHeader& header) {
  for (const ServerStatus& server : servers_) {
    if (!server.status.ok()) {
      return absl::Status(server.status.code(),
                          absl::StrCat(server.address, ": ", server.status.message()));
    }
    if (FindGeneration(server, header.target) != nullptr) continue;
    const GenerationStatus* const base = FindGeneration(server, header.base);
    if (base == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          server.address, " does not hold the base of ", path_, ", the table of digest ",
          ToHex(header.base), "; it serves ", ToHex(server.digest)));
    }
    Part part{&server, base->ranges, header, "", 0, absl::InfinitePast()};
    part.header.change = RowSum();
    for (DeltaLayer& layer : part.header.layers) layer.changed = 0;
    parts_.push_back(std::move(part));
  }
  return absl::OkStatus();
}

template <typename Visit>
absl::Status Publisher::ForEachRow(DeltaReader& delta, Visit visit) {
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<DeltaRow> row, delta.Next());
    if (!row.has_value()) return absl::OkStatus();
    RETURN_IF_ERROR(visit(*row, delta.header().layers[row->layer_index].layer));
  }
}

// What each part's header says.
absl::Status Publisher::Count(DeltaReader& delta) {
  return ForEachRow(delta, [&](const DeltaRow& row, uint32_t layer) -> absl::Status {
    for (Part& part : parts_) {
      if (!Holds(part.ranges, layer, row.row)) continue;
      ++part.header.layers[row.layer_index].changed;
      part.header.change.AddRow(layer, row.row, row.bytes, delta.header().row_bytes);
      part.header.change -= row.before;
    }
    if (std::none_of(servers_.begin(), servers_.end(), [&](const ServerStatus& server) {
          return Holds(server.ranges, layer, row.row);
        })) {
      return absl::FailedPreconditionError(absl::StrCat("none of the servers holds row ", row.row,
                                                        " of layer ", layer, ": name all of them"));
    }
    return absl::OkStatus();
  });
}

absl::Status Publisher::SendAll(DeltaReader& delta) {
  RETURN_IF_ERROR(ForEachRow(delta, [&](const DeltaRow& row, uint32_t layer) -> absl::Status {
    for (Part& part : parts_) {
      if (!Holds(part.ranges, layer, row.row)) continue;
      AppendDeltaRecord(row, part.header.row_bytes, part.records);
      if (part.records.size() >= kPieceBytes) RETURN_IF_ERROR(Send(part, false));
    }
    return absl::OkStatus();
  }));
  for (Part& part : parts_) RETURN_IF_ERROR(Send(part, true));
  return absl::OkStatus();
}

absl::Status Publisher::Send(Part& part, bool last) {
  const absl::Time now = std::max(absl::Now(), part.next);
  absl::SleepFor(now - absl::Now());
  if (max_mb_s_ > 0) {
    const double bytes = static_cast<double>(part.records.size());
    part.next = now + absl::Seconds(bytes / 1e6 / max_mb_s_);
  }
  const std::string header = part.sent == 0 ? EncodeDeltaHeader(part.header) : "";
  const absl::StatusOr<bool> prepared =
      PublishTo(part.server->address, {target_, header, part.sent, part.records, last},
                kPublishTimeout, credentials_);
  if (!prepared.ok()) {
    return absl::Status(prepared.status().code(),
                        absl::StrCat(part.server->address, ": ", prepared.status().message()));
  }
  if (last && !*prepared) {
    return absl::InternalError(
        absl::StrCat(part.server->address, " took the delta and does not hold its target"));
  }
  part.sent += part.records.size() / part.header.record_bytes();
  part.records.clear();
  return absl::OkStatus();
}

}  // namespace engram

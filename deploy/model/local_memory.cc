#include <algorithm>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "deploy/model/memory.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/table_reader.h"

namespace engram::model {
namespace {

class LocalRowsAhead final : public RowsAhead {
 public:
  absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) override {
    const auto found = rows.find(layer);
    if (found == rows.end()) return absl::NotFoundError(absl::StrCat("no table at layer ", layer));
    return std::span<const uint8_t>(found->second);
  }

  std::map<uint32_t, std::vector<uint8_t>> rows;
};

class LocalMemory final : public Memory {
 public:
  LocalMemory(Checkpoint checkpoint, LocalRows kind)
      : checkpoint_(std::move(checkpoint)), kind_(kind) {}

  absl::Status Load() {
    const TokenMap& map = *checkpoint_.token_map();
    ASSIGN_OR_RETURN(const uint32_t pad, map.Compress(geometry().params().pad_token));
    ASSIGN_OR_RETURN(RowHasher hasher, RowHasher::Create(geometry(), pad));
    hasher_ = std::make_unique<RowHasher>(std::move(hasher));
    ASSIGN_OR_RETURN(const std::unique_ptr<TableReader> reader, TableReader::Open(checkpoint_));
    std::mt19937_64 random(1);
    for (size_t i = 0; i < geometry().layers().size(); ++i) {
      const uint64_t rows = geometry().layers()[i].rows;
      std::vector<uint8_t>& table = tables_.emplace_back(rows * layout().row_bytes());
      std::vector<uint64_t>& places = places_.emplace_back(rows);
      std::iota(places.begin(), places.end(), uint64_t{0});
      if (kind_ == LocalRows::kZeros) continue;
      RETURN_IF_ERROR(reader->Read(i, 0, rows, table.data()));
      if (kind_ == LocalRows::kShuffled) std::shuffle(places.begin(), places.end(), random);
    }
    return absl::OkStatus();
  }

  const Geometry& geometry() const override { return checkpoint_.geometry(); }
  const RowLayout& layout() const override { return checkpoint_.layout(); }

  absl::StatusOr<std::unique_ptr<RowsAhead>> Fetch(std::span<const uint32_t> tokens,
                                                   LookBack& state) override {
    std::vector<uint32_t> compressed;
    for (uint32_t token : tokens) {
      ASSIGN_OR_RETURN(compressed.emplace_back(), checkpoint_.token_map()->Compress(token));
    }
    auto ahead = std::make_unique<LocalRowsAhead>();
    std::vector<int64_t> ids(tokens.size() * hasher_->columns());
    for (size_t i = 0; i < tables_.size(); ++i) {
      hasher_->HashChunk(i, compressed, {}, state, ids);
      std::vector<uint8_t>& out = ahead->rows[geometry().layers()[i].layer_id];
      out.reserve(ids.size() * layout().row_bytes());
      for (int64_t id : ids) {
        const uint8_t* const row =
            tables_[i].data() + places_[i][static_cast<size_t>(id)] * layout().row_bytes();
        out.insert(out.end(), row, row + layout().row_bytes());
      }
    }
    hasher_->Advance(compressed, {}, state);
    return ahead;
  }

 private:
  const Checkpoint checkpoint_;
  const LocalRows kind_;
  std::unique_ptr<RowHasher> hasher_;
  std::vector<std::vector<uint8_t>> tables_;
  std::vector<std::vector<uint64_t>> places_;  // where each row's bytes are
};

}  // namespace

absl::StatusOr<std::unique_ptr<Memory>> OpenMemory(const std::string& directory, LocalRows rows) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
  if (!checkpoint.token_map().has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " has no tokenizer.json"));
  }
  auto memory = std::make_unique<LocalMemory>(std::move(checkpoint), rows);
  RETURN_IF_ERROR(memory->Load());
  return memory;
}

}  // namespace engram::model

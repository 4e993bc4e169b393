#include "deploy/demo/row_check.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/row_ids.h"

namespace engram::demo {

absl::StatusOr<std::unique_ptr<RowCheck>> RowCheck::Open(const std::string& directory) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
  if (!checkpoint.token_map().has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " has no tokenizer.json"));
  }
  std::unique_ptr<RowCheck> check(new RowCheck(std::move(checkpoint)));
  ASSIGN_OR_RETURN(check->reader_, TableReader::Open(check->checkpoint_));
  return check;
}

absl::StatusOr<uint64_t> RowCheck::WrongRows(uint32_t layer, std::span<const uint32_t> tokens,
                                             size_t skip, std::span<const uint8_t> received) const {
  const Geometry& geometry = checkpoint_.geometry();
  const TokenMap& map = *checkpoint_.token_map();
  ASSIGN_OR_RETURN(size_t index, geometry.LayerIndex(layer));
  ASSIGN_OR_RETURN(uint32_t pad, map.Compress(geometry.params().pad_token));
  ASSIGN_OR_RETURN(RowHasher hasher, RowHasher::Create(geometry, pad));
  std::vector<uint32_t> compressed;
  for (uint32_t token : tokens) {
    ASSIGN_OR_RETURN(uint32_t id, map.Compress(token));
    compressed.push_back(id);
  }
  std::vector<int64_t> rows(tokens.size() * hasher.columns());
  hasher.HashChunk(index, compressed, {}, LookBack(), rows);

  const size_t row_bytes = checkpoint_.layout().row_bytes();
  const size_t first = skip * hasher.columns();
  if (received.size() != (rows.size() - first) * row_bytes) {
    return absl::InternalError("the rows received are not the rows of the text");
  }
  std::vector<uint8_t> expected(row_bytes);
  uint64_t wrong = 0;
  for (size_t i = first; i < rows.size(); ++i) {
    RETURN_IF_ERROR(reader_->Read(index, static_cast<uint64_t>(rows[i]), 1, expected.data()));
    const uint8_t* got = received.data() + (i - first) * row_bytes;
    wrong += std::memcmp(got, expected.data(), row_bytes) == 0 ? 0 : 1;
  }
  return wrong;
}

}  // namespace engram::demo

// Reading a checkpoint's tables once, for their digest and block sums.
#ifndef ENGRAM_STORAGE_TABLE_DIGEST_H_
#define ENGRAM_STORAGE_TABLE_DIGEST_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/range_map.h"
#include "storage/checkpoint.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"
#include "storage/table_reader.h"

namespace engram {

// Rows that are read, packed and hashed at a time: about a megabyte, which stays in L2.
inline constexpr uint64_t kChunkRows = 4096;

// How many rows to read next of rows that may have holes: whole chunks, but few behind a hole, then
// more and more. What lies between holes is mostly small, and a hole that is read costs as much as
// data does.
class ChunkSteps {
 public:
  // At most `left`.
  uint64_t Next(bool behind_hole, uint64_t left) {
    step_ = behind_hole ? kFirst : std::min(2 * step_, kChunkRows);
    return std::min(step_, left);
  }

 private:
  static constexpr uint64_t kFirst = 16;  // a page of V4.1-Flash's values
  uint64_t step_ = kChunkRows;
};

// The ranges, cut where blocks of the sidecar end.
std::vector<RowRange> CutIntoBlocks(const std::vector<RowRange>& ranges);

// The sum over rows [begin, end) of a layer, read chunk by chunk; holes are not read.
absl::StatusOr<RowSum> SumRows(const TableReader& reader, const Checkpoint& checkpoint,
                               size_t layer_index, uint64_t begin, uint64_t end);

// Reads the whole blocks that hold `rows` (of the layer at `layer_index`) and holds them against
// `sums`. DataLoss naming the block that differs; else codes as TableReader::Read.
absl::Status CheckBlocks(const TableReader& reader, const Checkpoint& checkpoint,
                         size_t layer_index, const RowRange& rows, const LayerSums& sums);

// DataLoss for a block whose rows differ from its sum in the sidecar, saying what to do.
absl::Status BlockDiffers(const Checkpoint& checkpoint, size_t layer_index, uint64_t block);

// Reads every row that is not in a hole. Codes as TableReader::Read; DataLoss also when a file
// changes meanwhile. `threads` 0: one per core; `log` and `progress` may be
// null.
absl::StatusOr<Sidecar> ComputeSidecar(const Checkpoint& checkpoint, uint32_t threads,
                                       const std::function<void(absl::string_view)>& log,
                                       LoadProgress* progress = nullptr);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_DIGEST_H_

// Reading a checkpoint's tables once, for their digest and block sums.
#ifndef ENGRAM_STORAGE_TABLE_DIGEST_H_
#define ENGRAM_STORAGE_TABLE_DIGEST_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/range_map.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/table_reader.h"

namespace engram {

// Rows that are read, packed and hashed at a time: about a megabyte, which stays in L2.
inline constexpr uint64_t kChunkRows = 4096;

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
// changes meanwhile. `threads` 0: one per core; `log` may be null.
absl::StatusOr<Sidecar> ComputeSidecar(const Checkpoint& checkpoint, uint32_t threads,
                                       const std::function<void(absl::string_view)>& log);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_DIGEST_H_

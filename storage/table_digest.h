// Reading a checkpoint's tables once, for their digest and block sums.
#ifndef ENGRAM_STORAGE_TABLE_DIGEST_H_
#define ENGRAM_STORAGE_TABLE_DIGEST_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/table_reader.h"

namespace engram {

// Rows that are read, packed and hashed at a time: about a megabyte, which stays in L2.
inline constexpr uint64_t kChunkRows = 4096;

// The sum over rows [begin, end) of a layer, read chunk by chunk.
absl::StatusOr<RowSum> SumRows(const TableReader& reader, const Checkpoint& checkpoint,
                               size_t layer_index, uint64_t begin, uint64_t end);

// Reads every row. Codes as TableReader::Read. `threads` 0: one per core; `log` may be null.
absl::StatusOr<Sidecar> ComputeSidecar(const Checkpoint& checkpoint, uint32_t threads,
                                       const std::function<void(absl::string_view)>& log);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_DIGEST_H_

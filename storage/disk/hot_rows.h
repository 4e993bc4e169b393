// The list of a cache's rows, kept across restarts.
//
// File: 8 bytes "ENGRHOTR"; u32 format version (1); u32 CRC32C of all that follows; the table's
// digest, 32 bytes; u64 count; then the places, u32 each, ascending; then the uses, u8 each. All
// little-endian. A place counts the shard's rows range by range (storage/range_index.h).
#ifndef ENGRAM_STORAGE_DISK_HOT_ROWS_H_
#define ENGRAM_STORAGE_DISK_HOT_ROWS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/sha256.h"
#include "storage/disk/disk_row_cache.h"

namespace engram {

// Replaces the file whole. The system's code where that fails.
absl::Status WriteHotRows(const std::string& path, const Sha256& digest,
                          const std::vector<HotRow>& rows);

// NotFound: no file. InvalidArgument: not such a file, of another version or table, or a place that
// is not below `rows`. DataLoss: cut off, or damaged. Messages name the file.
absl::StatusOr<std::vector<HotRow>> ReadHotRows(const std::string& path, const Sha256& digest,
                                                uint64_t rows);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_HOT_ROWS_H_

// From a checkpoint's files into a database on disk.
#ifndef ENGRAM_STORAGE_DISK_DISK_IMPORT_H_
#define ENGRAM_STORAGE_DISK_DISK_IMPORT_H_

#include "absl/status/status.h"
#include "storage/checkpoint.h"
#include "storage/disk/data_dir.h"
#include "storage/disk/shard_manifest.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"

namespace engram {

// Rows of one shard are at most so many: the cache before the disk counts them in 32 bits.
inline constexpr uint64_t kMaxDiskRows = UINT32_MAX - 1;

// Writes the rows of manifest.ranges as sorted files, several at a time; reads each back and holds
// it against the sidecar's sums; then makes all of them, and the manifest, the database at once.
// Ended at any point, the next call goes on behind the files that are whole, after having read them
// back. `manifest` has no sums.
//
// FailedPrecondition: an import of another shard or table was begun here. ResourceExhausted: the
// disk does not hold the shard (with both figures, before anything is written), or became full.
// InvalidArgument: more rows than kMaxDiskRows. DataLoss: rows of the checkpoint differ from the
// sidecar's sums, or what was written cannot be read back. Else as TableReader::Read.
absl::Status ImportShard(const DataDir& data_dir, const Checkpoint& checkpoint,
                         const Sidecar& sidecar, ShardManifest manifest,
                         const ParallelOptions& parallel);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_IMPORT_H_

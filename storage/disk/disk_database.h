// The database of a shard on disk, as it is opened to be read.
#ifndef ENGRAM_STORAGE_DISK_DISK_DATABASE_H_
#define ENGRAM_STORAGE_DISK_DISK_DATABASE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/disk/rocks_db.h"
#include "storage/disk/shard_manifest.h"

namespace engram {

// One that is whole. What is read stays as it was when it was opened, whatever is folded in.
struct DiskDatabase {
  std::unique_ptr<const RocksDb> rows;
  ShardManifest manifest;
};

// NotFound: nothing has been imported to its end. Else as RocksDb::Open and ParseShardManifest.
absl::StatusOr<DiskDatabase> OpenDiskDatabase(const std::string& path, bool direct_reads);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_DATABASE_H_

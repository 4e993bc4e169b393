// A shard on disk: imported once, served ever after.
#ifndef ENGRAM_STORAGE_DISK_DISK_TABLE_H_
#define ENGRAM_STORAGE_DISK_DISK_TABLE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "storage/disk/shard_manifest.h"
#include "storage/table.h"

namespace engram {

struct DiskOptions {
  std::string data_dir;        // made where it is not there
  uint32_t read_threads = 16;  // that wait for the disk
  bool direct_reads = false;   // past the page cache
};

// Opens the shard in the data directory, after having imported it from options.checkpoint where it
// is not there yet. Where it is, the checkpoint may be empty, or a directory without tables; it and
// options.expect_digest may be of the table that was imported, though generations were folded into
// the database since (storage/disk/disk_fold.h): they are what is opened.
//
// A shard that fits options.memory_budget (0: what the machine has left) is loaded into memory
// whole; of any other the budget (0: three quarters of that) is for the database's index and the
// cache of rows. options.log says which.
//
// As DataDir::Hold, ImportShard and LoadTable; also FailedPrecondition: the directory has another
// shard or table than the options name, or one of a newer format; NotFound: it has none, and there
// is no checkpoint; ResourceExhausted: the budget is smaller than the index; DataLoss: what the
// database says of itself cannot be read.
absl::StatusOr<Table> OpenDiskTable(const LoadOptions& options, const DiskOptions& disk);

// The same without serving.
absl::StatusOr<ShardManifest> ImportDiskTable(const LoadOptions& options, const DiskOptions& disk);

// Of a database that is whole, whoever has it. NotFound: nothing was imported there to its end.
absl::StatusOr<ShardManifest> ReadShardManifest(const std::string& database);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_TABLE_H_

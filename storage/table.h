// A table (or a shard of one) loaded from a checkpoint: what a server serves.
#ifndef ENGRAM_STORAGE_TABLE_H_
#define ENGRAM_STORAGE_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"
#include "proto/range_map.h"
#include "proto/sha256.h"
#include "proto/shard_map.h"
#include "proto/token_map.h"
#include "storage/checkpoint.h"
#include "storage/parallel.h"
#include "storage/row_store.h"
#include "storage/sidecar.h"

namespace engram {

// Where rows live while they are served.
enum class StoreKind {
  kMemory,   // one arena on huge pages, row checksums beside it
  kMapped,   // the checkpoint's files, through the page cache
  kRocksDb,  // a database on disk, behind a cache of rows: storage/disk/disk_table.h opens it
};

// "memory", "mapped" or "rocksdb"; InvalidArgument otherwise.
absl::StatusOr<StoreKind> ParseStoreKind(absl::string_view name);

// A loaded shard. Immutable once built; rows of a generation never change under its digest.
struct Table {
  std::string model;
  Geometry geometry;
  std::optional<TokenMap> token_map;
  Shard shard;
  Sha256 digest{};
  std::unique_ptr<const RowStore> rows;
};

struct LoadOptions {
  std::string checkpoint;                  // directory
  std::string sidecar;                     // empty: beside the tables
  Shard shard;                             // an equal one, or of `shard_map`
  std::optional<ShardMap> shard_map = {};  // none: equal shards
  StoreKind store = StoreKind::kMemory;
  // Directory on tmpfs or hugetlbfs for the rows of a kMemory shard, which then outlive the process
  // (storage/arena_file.h); empty: the process's own memory.
  std::string arena_dir = {};
  uint64_t memory_budget = 0;                  // bytes; 0: what the machine (or cgroup) has left
  std::optional<Sha256> expect_digest;         // refuse any other table
  uint32_t threads = 0;                        // readers; 0: one per core
  std::function<void(absl::string_view)> log;  // a line of progress or notice; may be null
  LoadProgress* progress = nullptr;            // outlives the load; may be null
};

// Loads a shard (not kRocksDb). As Checkpoint::Open and ShardMap::Ranges; also FailedPrecondition:
// `expect_digest` is not the table's; DataLoss: rows differ from the sidecar's sums, a file ended
// early or changed meanwhile; ResourceExhausted: the shard does not fit into memory (said before
// loading, with both figures); with `arena_dir` codes as ArenaFile::Open. Neither a mapped shard
// whose files have the times that the sidecar knows is read, nor one whose arena is complete (some
// of its rows are held against their checksums, and it is loaded anew where one differs): verify it
// in the background (rows->state().verified_passes is 0 then, else 1).
absl::StatusOr<Table> LoadTable(const LoadOptions& options);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_H_

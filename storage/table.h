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
#include "proto/token_map.h"
#include "storage/row_store.h"

namespace engram {

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
  std::string checkpoint;  // directory
  std::string sidecar;     // empty: beside the tables
  Shard shard;
  std::optional<Sha256> expect_digest;         // refuse any other table
  uint32_t threads = 0;                        // readers; 0: one per core
  std::function<void(absl::string_view)> log;  // a line of progress or notice; may be null
};

// Loads a shard into memory (one arena on huge pages, row checksums beside it).
// As Checkpoint::Open; also FailedPrecondition: `expect_digest` is not the table's; DataLoss: rows
// differ from the sidecar's sums or a file ended early; ResourceExhausted: the shard does not fit
// into the memory that is available (said before loading, with both figures).
absl::StatusOr<Table> LoadTable(const LoadOptions& options);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_H_

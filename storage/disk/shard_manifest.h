// What a shard on disk says of itself: all that serving it takes beside its rows.
#ifndef ENGRAM_STORAGE_DISK_SHARD_MANIFEST_H_
#define ENGRAM_STORAGE_DISK_SHARD_MANIFEST_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "proto/geometry.h"
#include "proto/range_map.h"
#include "proto/row_layout.h"
#include "proto/sha256.h"
#include "proto/token_map.h"

namespace engram {

// A key of the database whose value is its ShardManifest: where it is, every row is.
inline constexpr char kManifestKey[] = "manifest";

struct ShardManifest {
  std::string model;
  Sha256 digest{};
  Geometry geometry;
  RowLayout layout;
  std::optional<TokenMap> token_map;
  Shard shard;
  std::vector<RowRange> ranges;  // sorted by (layer, begin)
  // Of each part of CutIntoBlocks(ranges), over its own rows alone. Empty while rows are imported.
  std::vector<RowSum> sums;
  std::vector<Sha256> former = {};  // digests that it had before generations were folded in

  bool Had(const Sha256& other) const;  // whether `other` is a former digest
  // The digest is a former one from now on.
  void TakeDigest(const Sha256& now);
};

// A engram.storage.v1.DiskShard.
std::string SerializeShardManifest(const ShardManifest& manifest);

// FailedPrecondition: of another format than this program's. DataLoss: damaged.
absl::StatusOr<ShardManifest> ParseShardManifest(absl::string_view bytes);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_SHARD_MANIFEST_H_

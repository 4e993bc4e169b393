// A file that says which rows each shard holds, for machines of different sizes.
#ifndef ENGRAM_PROTO_SHARD_MAP_H_
#define ENGRAM_PROTO_SHARD_MAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"
#include "proto/range_map.h"

namespace engram {

inline constexpr uint64_t kMaxShardMapBytes = 64 << 20;  // of the file
// Of one shard: what `Describe` says of two generations of it stays below the 4 MiB that a client
// takes.
inline constexpr size_t kMaxShardRanges = 65536;

// A JSON object with the list `shards`, each with a `name` and, the same in all of them, either a
// `share` (of every layer's rows it gets share / sum of shares, one behind the other) or `ranges`:
//   {"shards": [{"name": "big-0", "share": 3}, {"name": "small-0", "share": 1}]}
//   {"shards": [{"name": "a", "ranges": [{"layer": 1, "begin": 0, "end": 900}]}, ...]}
// A name is 1 to 63 printable characters without space and `/`. Replicas are servers of one shard,
// so shards neither overlap nor leave rows out.
class ShardMap {
 public:
  // InvalidArgument naming `source` and what is wrong: not of that form, a field that is not known,
  // a share of 0 or above 2^32, a name twice, no shards or more than kMaxShards, a shard of more
  // than kMaxShardRanges.
  static absl::StatusOr<ShardMap> Parse(absl::string_view json, absl::string_view source);

  // Every shard's ranges, in the order of names(). InvalidArgument: a range that the geometry does
  // not have, two that overlap, rows that nobody holds, or a shard that would hold nothing.
  absl::StatusOr<std::vector<std::vector<RowRange>>> Ranges(const Geometry& geometry) const;

  // Which shard has that name. NotFound naming some that there are.
  absl::StatusOr<Shard> Find(absl::string_view name) const;

  const std::vector<std::string>& names() const { return names_; }

 private:
  absl::Status Complain(absl::string_view what) const;
  std::vector<std::vector<RowRange>> RangesOfShares(const Geometry& geometry) const;
  absl::Status CheckCover(const Geometry& geometry,
                          const std::vector<std::vector<RowRange>>& ranges) const;

  std::string source_;
  std::vector<std::string> names_;
  std::vector<uint64_t> shares_;               // empty: explicit ranges
  std::vector<std::vector<RowRange>> ranges_;  // empty: shares
};

}  // namespace engram

#endif  // ENGRAM_PROTO_SHARD_MAP_H_

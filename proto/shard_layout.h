// What a cut into shards means for lookups: how evenly rows are spread, and how many servers a
// token's rows come from (the slowest of them decides when the token can go on).
#ifndef ENGRAM_PROTO_SHARD_LAYOUT_H_
#define ENGRAM_PROTO_SHARD_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "proto/geometry.h"
#include "proto/range_map.h"

namespace engram {

struct LayerSpread {
  uint32_t layer = 0;
  double shards_per_token = 0;  // that one token's rows come from, expected
  double shards_per_batch = 0;  // the same of `batch` tokens
  double largest_share = 0;     // of all rows asked for that the busiest shard answers
};

struct ShardLayout {
  uint64_t smallest_rows = 0;  // of one shard, over all layers
  uint64_t largest_rows = 0;
  std::vector<LayerSpread> layers;
};

// `shards` are every shard's ranges, valid for the geometry and over all of its rows. Each hash
// column asks for one of its own rows, each as likely as any other (what a hash is for), so a shard
// that holds the part f of a column is spared by it with 1 - f: a token reaches the shard with
// 1 - prod (1 - f), T tokens with 1 - prod (1 - f)^T.
ShardLayout PlanShardLayout(const Geometry& geometry,
                            const std::vector<std::vector<RowRange>>& shards, uint64_t batch);

}  // namespace engram

#endif  // ENGRAM_PROTO_SHARD_LAYOUT_H_

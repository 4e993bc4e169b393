// Row ids -> one group of rows per segment, with the way back to the caller's order.
#ifndef ENGRAM_CLIENT_SHARD_PLAN_H_
#define ENGRAM_CLIENT_SHARD_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "client/cluster_map.h"

namespace engram {

// The rows of one layer's lookup, grouped by segment. Reuse one object: vectors keep their
// capacity.
struct ShardPlan {
  // Group g is [group_begin[g], group_begin[g + 1]) of the arrays below; g indexes the layer's
  // segments; groups may be empty.
  std::vector<size_t> group_begin;
  std::vector<uint64_t> rows;       // global row ids
  std::vector<uint32_t> positions;  // where each goes: index into the lookup's ids
  std::vector<uint32_t> none;       // positions that asked for no row

 private:
  friend absl::Status PlanShards(std::span<const int64_t>, uint64_t, const LayerSegments&,
                                 ShardPlan&);
  std::vector<uint32_t> segment_of_;  // scratch
};

// Fills `plan` for `ids` (-1: no row) of a layer of `layer_rows` rows; within a group the caller's
// order is kept. At most 2^32 - 1 ids. OutOfRange naming the first position whose id is not a row
// of the layer; `plan` is then unspecified. Pure; linear in the ids.
absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, ShardPlan& plan);

}  // namespace engram

#endif  // ENGRAM_CLIENT_SHARD_PLAN_H_

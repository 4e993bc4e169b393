// Row ids -> one group of rows per segment, with the way back to the caller's order.
#ifndef ENGRAM_CLIENT_SHARD_PLAN_H_
#define ENGRAM_CLIENT_SHARD_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "client/cluster_map.h"
#include "client/ngrams.h"

namespace engram {

// Rows of a plan, one behind the other, that are wanted in a second place.
struct RowCopy {
  enum class To : uint8_t {
    kPosition,  // of the same lookup
    kCache,     // a row of the client's cache
  };
  uint32_t row;    // index of the first into the plan's rows
  uint32_t count;  // of rows
  uint32_t place;  // of the first; the others follow
  To to;

  uint32_t end() const { return row + count; }
};

// The rows of one layer's lookup, grouped by segment. Reuse one object: vectors keep their
// capacity.
struct ShardPlan {
  // Group g is [group_begin[g], group_begin[g + 1]) of the arrays below; g indexes the layer's
  // segments; groups may be empty.
  std::vector<size_t> group_begin;
  std::vector<uint64_t> rows;       // global row ids
  std::vector<uint32_t> positions;  // where each goes: index into the lookup's ids
  std::vector<uint32_t> none;       // positions that asked for no row
  std::vector<RowCopy> copies;      // in the order of their rows, each of one n-gram at most

 private:
  friend class ShardPlanner;
  std::vector<uint32_t> segment_of_;                   // scratch
  std::vector<std::vector<RowCopy>> copies_of_group_;  // scratch
};

// The copies of any of rows [begin, end) of the plan.
std::span<const RowCopy> CopiesOf(const ShardPlan& plan, size_t begin, size_t end);

// Fills `plan` for `ids` (-1: no row) of a layer of `layer_rows` rows; within a group the caller's
// order is kept. At most 2^32 - 1 ids. OutOfRange naming the first position whose id is not a row
// of the layer; `plan` is then unspecified. Pure; linear in the ids.
absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, ShardPlan& plan);

// The same of those n-grams that `fold` says are to be fetched; their copies go to their duplicates
// and to the cache's slots, of `columns.max_size()` rows each.
absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, const NgramColumns& columns,
                        const NgramFold& fold, ShardPlan& plan);

}  // namespace engram

#endif  // ENGRAM_CLIENT_SHARD_PLAN_H_

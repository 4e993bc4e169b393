#include "client/shard_plan.h"

#include "absl/strings/str_cat.h"
#include "proto/row_ids.h"

namespace engram {

absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, ShardPlan& plan) {
  constexpr uint32_t kNone = UINT32_MAX;
  const size_t groups = segments.all().size();
  plan.none.clear();
  plan.segment_of_.resize(ids.size());
  plan.group_begin.assign(groups + 1, 0);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == kNoRow) {
      plan.segment_of_[i] = kNone;
      plan.none.push_back(static_cast<uint32_t>(i));
      continue;
    }
    const uint64_t row = static_cast<uint64_t>(ids[i]);  // A negative id becomes a huge one.
    if (row >= layer_rows) {
      return absl::OutOfRangeError(absl::StrCat("row id ", ids[i], " at position ", i,
                                                " is not a row of a layer of ", layer_rows));
    }
    const size_t group = segments.Find(row);
    plan.segment_of_[i] = static_cast<uint32_t>(group);
    ++plan.group_begin[group + 1];
  }
  for (size_t g = 0; g < groups; ++g) plan.group_begin[g + 1] += plan.group_begin[g];
  plan.rows.resize(plan.group_begin[groups]);
  plan.positions.resize(plan.group_begin[groups]);
  // Placing moves each group's begin to its end, which is the next group's begin.
  for (size_t i = 0; i < ids.size(); ++i) {
    if (plan.segment_of_[i] == kNone) continue;
    const size_t place = plan.group_begin[plan.segment_of_[i]]++;
    plan.rows[place] = static_cast<uint64_t>(ids[i]);
    plan.positions[place] = static_cast<uint32_t>(i);
  }
  for (size_t g = groups; g > 0; --g) plan.group_begin[g] = plan.group_begin[g - 1];
  plan.group_begin[0] = 0;
  return absl::OkStatus();
}

}  // namespace engram

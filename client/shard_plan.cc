#include "client/shard_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/row_ids.h"

namespace engram {

// First every id gets its segment, then its place among that segment's rows. Callers say which runs
// of ids take part.
class ShardPlanner {
 public:
  ShardPlanner(std::span<const int64_t> ids, uint64_t layer_rows, const LayerSegments& segments,
               ShardPlan& plan)
      : ids_(ids), layer_rows_(layer_rows), segments_(segments), plan_(plan) {
    plan_.none.clear();
    plan_.copies.clear();
    plan_.segment_of_.resize(ids.size());
    plan_.group_begin.assign(segments.all().size() + 1, 0);
  }

  // Once for every run, in their order.
  absl::Status Assign(size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (ids_[i] == kNoRow) {
        plan_.segment_of_[i] = kNone;
        plan_.none.push_back(static_cast<uint32_t>(i));
        continue;
      }
      const uint64_t row = static_cast<uint64_t>(ids_[i]);  // A negative id becomes a huge one.
      if (row >= layer_rows_) {
        return absl::OutOfRangeError(absl::StrCat("row id ", ids_[i], " at position ", i,
                                                  " is not a row of a layer of ", layer_rows_));
      }
      const size_t group = segments_.Find(row);
      plan_.segment_of_[i] = static_cast<uint32_t>(group);
      ++plan_.group_begin[group + 1];
    }
    return absl::OkStatus();
  }

  // When all are assigned.
  void BeginPlacing() {
    const size_t groups = segments_.all().size();
    for (size_t g = 0; g < groups; ++g) plan_.group_begin[g + 1] += plan_.group_begin[g];
    plan_.rows.resize(plan_.group_begin[groups]);
    plan_.positions.resize(plan_.group_begin[groups]);
  }

  // Once for every run. Calls placed(group, place, i, count) for rows that follow each other both
  // in the group and among the ids. Placing moves each group's begin to its end, which is the next
  // group's begin.
  template <typename Placed>
  void Place(size_t begin, size_t end, Placed placed) {
    for (size_t i = begin; i < end;) {
      const uint32_t group = plan_.segment_of_[i];
      if (group == kNone) {
        ++i;
        continue;
      }
      const size_t first = i;
      size_t place = plan_.group_begin[group];
      const size_t first_place = place;
      for (; i < end && plan_.segment_of_[i] == group; ++i, ++place) {
        plan_.rows[place] = static_cast<uint64_t>(ids_[i]);
        plan_.positions[place] = static_cast<uint32_t>(i);
      }
      plan_.group_begin[group] = place;
      placed(group, static_cast<uint32_t>(first_place), first, static_cast<uint32_t>(i - first));
    }
  }

  void EndPlacing() {
    const size_t groups = segments_.all().size();
    for (size_t g = groups; g > 0; --g) plan_.group_begin[g] = plan_.group_begin[g - 1];
    plan_.group_begin[0] = 0;
  }

  // Copies are found in the order of the ids; the plan wants them in that of its rows.
  void BeginCopies() {
    plan_.copies_of_group_.resize(segments_.all().size());
    for (auto& copies : plan_.copies_of_group_) copies.clear();
  }
  void Copy(uint32_t group, const RowCopy& copy) { plan_.copies_of_group_[group].push_back(copy); }
  void EndCopies() {
    if (plan_.copies_of_group_.size() == 1) return plan_.copies.swap(plan_.copies_of_group_[0]);
    for (const auto& copies : plan_.copies_of_group_) {
      plan_.copies.insert(plan_.copies.end(), copies.begin(), copies.end());
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  const std::span<const int64_t> ids_;
  const uint64_t layer_rows_;
  const LayerSegments& segments_;
  ShardPlan& plan_;
};

std::span<const RowCopy> CopiesOf(const ShardPlan& plan, size_t begin, size_t end) {
  const auto& copies = plan.copies;
  const auto first = std::partition_point(
      copies.begin(), copies.end(), [begin](const RowCopy& copy) { return copy.end() <= begin; });
  return {first, std::partition_point(first, copies.end(),
                                      [end](const RowCopy& copy) { return copy.row < end; })};
}

absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, ShardPlan& plan) {
  ShardPlanner planner(ids, layer_rows, segments, plan);
  RETURN_IF_ERROR(planner.Assign(0, ids.size()));
  planner.BeginPlacing();
  planner.Place(0, ids.size(), [](uint32_t, uint32_t, size_t, uint32_t) {});
  planner.EndPlacing();
  return absl::OkStatus();
}

absl::Status PlanShards(std::span<const int64_t> ids, uint64_t layer_rows,
                        const LayerSegments& segments, const NgramColumns& columns,
                        const NgramFold& fold, ShardPlan& plan) {
  ShardPlanner planner(ids, layer_rows, segments, plan);
  const uint32_t slot_rows = columns.max_size();
  // Calls visit(first position, end, n-gram) for those that are fetched.
  const auto for_each_fetched = [&](auto visit) -> absl::Status {
    uint32_t ngram = 0;
    for (size_t token = 0; token < ids.size(); token += columns.columns()) {
      for (uint32_t part = 0; part < columns.parts(); ++part, ++ngram) {
        if (fold.source[ngram] != NgramFold::Source::kFetch) continue;
        const size_t first = token + columns.begin(part);
        RETURN_IF_ERROR(visit(first, first + columns.size(part), ngram));
      }
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(for_each_fetched(
      [&](size_t first, size_t end, uint32_t) { return planner.Assign(first, end); }));
  planner.BeginPlacing();
  planner.BeginCopies();
  for_each_fetched([&](size_t first, size_t end, uint32_t ngram) {
    planner.Place(first, end, [&](uint32_t group, uint32_t place, size_t i, uint32_t count) {
      const auto head = static_cast<uint32_t>(i - first);
      for (uint32_t other = fold.next[ngram]; other != 0; other = fold.next[other]) {
        planner.Copy(group, {place, count, columns.First(other) + head, RowCopy::To::kPosition});
      }
      if (fold.slot[ngram] != NgramFold::kNoSlot) {
        planner.Copy(group,
                     {place, count, fold.slot[ngram] * slot_rows + head, RowCopy::To::kCache});
      }
    });
    return absl::OkStatus();
  }).IgnoreError();
  planner.EndPlacing();
  planner.EndCopies();
  return absl::OkStatus();
}

}  // namespace engram

#include "client/shard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

LayerSegments Thirds() { return LayerSegments({{0, 10, {0}}, {10, 20, {1}}, {20, 30, {2}}}); }

TEST(ShardPlan, GroupsBySegmentInTheCallersOrder) {
  ShardPlan plan;
  ASSERT_THAT(PlanShards(std::vector<int64_t>{25, 3, -1, 29, 3, 0}, 30, Thirds(), plan), IsOk());
  EXPECT_THAT(plan.group_begin, ElementsAre(0, 3, 3, 5));
  EXPECT_THAT(plan.rows, ElementsAre(3, 3, 0, 25, 29));
  EXPECT_THAT(plan.positions, ElementsAre(1, 4, 5, 0, 3));
  EXPECT_THAT(plan.none, ElementsAre(2));
}

TEST(ShardPlan, NothingAsked) {
  ShardPlan plan;
  ASSERT_THAT(PlanShards({}, 30, Thirds(), plan), IsOk());
  EXPECT_THAT(plan.rows, IsEmpty());
  EXPECT_THAT(plan.group_begin, ElementsAre(0, 0, 0, 0));
}

TEST(ShardPlan, RefusesIdsThatAreNoRows) {
  ShardPlan plan;
  EXPECT_THAT(PlanShards(std::vector<int64_t>{1, 30}, 30, Thirds(), plan),
              StatusIs(absl::StatusCode::kOutOfRange, "row id 30 at position 1"));
  EXPECT_THAT(PlanShards(std::vector<int64_t>{-2}, 30, Thirds(), plan),
              StatusIs(absl::StatusCode::kOutOfRange, "row id -2 at position 0"));
}

TEST(ShardPlan, EveryPositionIsPlannedOnce) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  ShardPlan plan;  // Reused: what an earlier, larger plan left must not show.
  for (const size_t count : {1000, 10, 500}) {
    std::vector<int64_t> ids(count);
    for (int64_t& id : ids) id = static_cast<int64_t>(random() % 31) - 1;
    ASSERT_THAT(PlanShards(ids, 30, Thirds(), plan), IsOk());
    std::vector<int64_t> back(count, -1);
    for (size_t i = 0; i < plan.rows.size(); ++i) {
      back[plan.positions[i]] = static_cast<int64_t>(plan.rows[i]);
    }
    EXPECT_EQ(back, ids);
    for (size_t g = 0; g < 3; ++g) {
      for (size_t i = plan.group_begin[g]; i < plan.group_begin[g + 1]; ++i) {
        EXPECT_EQ(plan.rows[i] / 10, g);
      }
    }
  }
}

}  // namespace
}  // namespace engram

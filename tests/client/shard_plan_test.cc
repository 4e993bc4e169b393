#include "client/shard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
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

// Columns of two heads and two orders: token 0 is {3, 4 | 12, 25}, and so on.
TEST(ShardPlan, FetchesWhatIsNotElsewhere) {
  const std::vector<int64_t> ids = {3, 4, 12, 25,  //
                                    5, 6, 12, 25,  //
                                    3, 4, 9,  -1,  //
                                    7, 8, 12, 25};
  const NgramColumns columns(2, {0, 4});
  NgramFold fold;
  fold.Reset(8);
  fold.source[4] = NgramFold::Source::kDuplicate;  // of n-gram 0
  fold.next[0] = 4;
  fold.source[3] = fold.source[7] = NgramFold::Source::kDuplicate;  // of n-gram 1
  fold.next[1] = 3;
  fold.next[3] = 7;
  fold.source[6] = NgramFold::Source::kCached;
  fold.slot[6] = 0;
  fold.slot[1] = 5;  // takes its rows
  ShardPlan plan;
  ASSERT_THAT(PlanShards(ids, 30, Thirds(), columns, fold, plan), IsOk());
  EXPECT_THAT(plan.group_begin, ElementsAre(0, 5, 6, 7));
  EXPECT_THAT(plan.rows, ElementsAre(3, 4, 5, 6, 9, 12, 25));
  EXPECT_THAT(plan.positions, ElementsAre(0, 1, 4, 5, 10, 2, 3));
  EXPECT_THAT(plan.none, ElementsAre(11));
  const auto copy = [](RowCopy::To to, uint32_t row, uint32_t count, uint32_t place) {
    return AllOf(Field(&RowCopy::to, to), Field(&RowCopy::row, row), Field(&RowCopy::count, count),
                 Field(&RowCopy::place, place));
  };
  EXPECT_THAT(
      plan.copies,
      ElementsAre(copy(RowCopy::To::kPosition, 0, 2, 8),
                  // Two servers have n-gram 1's rows.
                  copy(RowCopy::To::kPosition, 5, 1, 6), copy(RowCopy::To::kPosition, 5, 1, 14),
                  copy(RowCopy::To::kCache, 5, 1, 10), copy(RowCopy::To::kPosition, 6, 1, 7),
                  copy(RowCopy::To::kPosition, 6, 1, 15), copy(RowCopy::To::kCache, 6, 1, 11)));
  EXPECT_EQ(CopiesOf(plan, 0, 5).size(), 1u);
  EXPECT_EQ(CopiesOf(plan, 1, 5).size(), 1u);
  EXPECT_EQ(CopiesOf(plan, 5, 6).size(), 3u);
  EXPECT_EQ(CopiesOf(plan, 2, 5).size(), 0u);
}

}  // namespace
}  // namespace engram

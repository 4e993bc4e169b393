#include "client/guess_controller.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

constexpr GuessBounds kBounds{
    .bytes_per_step = 100'000, .bytes_per_second = 1'000'000, .least_hits_per_mb = 2};
const absl::Time kStart = absl::UnixEpoch();

// Steps of 5 ms that cost 50,000 bytes, one of `every` of which hits (0: none). How many it took
// until it stopped or started; 0: it did not.
int StepsUntilItTurns(GuessController& controller, int every, absl::Time& now, int most = 2000) {
  for (int step = 1; step <= most; ++step, now += absl::Milliseconds(5)) {
    const bool hit = every > 0 && step % every == 0;
    if (controller.Learn(50'000, hit ? 1 : 0, now)) return step;
  }
  return 0;
}

TEST(GuessController, StopsWhereHitsPerByteFallUnderTheBoundAndStartsAgain) {
  GuessController controller(kBounds);
  absl::Time now = kStart;
  EXPECT_EQ(StepsUntilItTurns(controller, 5, now), 0) << "4 hits per MB";
  EXPECT_TRUE(controller.on());
  EXPECT_GT(controller.Allowance(now), 0u);

  const int steps = StepsUntilItTurns(controller, 0, now);
  EXPECT_GT(steps, GuessController::kWindow / 4);
  EXPECT_LT(steps, 2 * GuessController::kWindow);
  EXPECT_FALSE(controller.on());
  EXPECT_EQ(controller.Allowance(now), 0u);
  now += absl::Hours(1);
  EXPECT_EQ(controller.Allowance(now), 0u);

  EXPECT_EQ(StepsUntilItTurns(controller, 0, now), 0);
  EXPECT_EQ(StepsUntilItTurns(controller, 10, now), 0) << "just the bound: it stays as it is";
  const int again = StepsUntilItTurns(controller, 5, now);
  EXPECT_GT(again, 0);
  EXPECT_LT(again, 2 * GuessController::kWindow);
  EXPECT_TRUE(controller.on());
  EXPECT_GT(controller.Allowance(now), 0u);
}

TEST(GuessController, DoesNotStartAgainWithinThePause) {
  GuessController controller(kBounds);
  absl::Time now = kStart;
  ASSERT_GT(StepsUntilItTurns(controller, 0, now), 0);
  const absl::Time stopped = now;
  ASSERT_GT(StepsUntilItTurns(controller, 1, now), 0);
  EXPECT_GE(now, stopped + GuessController::kPause);
  EXPECT_LT(now, stopped + 2 * GuessController::kPause);
}

TEST(GuessController, WhileItIsStoppedItProbesNowAndThen) {
  GuessController controller(kBounds);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(controller.Wanted());
  absl::Time now = kStart;
  ASSERT_GT(StepsUntilItTurns(controller, 0, now), 0);
  int wanted = 0;
  for (int i = 0; i < 10 * GuessController::kProbeEvery; ++i) wanted += controller.Wanted() ? 1 : 0;
  EXPECT_EQ(wanted, 10);
  EXPECT_EQ(controller.Allowance(now), 0u);
}

TEST(GuessController, StepsWithoutGuessesSayNothing) {
  GuessController controller(kBounds);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(controller.Learn(0, 0, kStart));
  EXPECT_TRUE(controller.on());
}

TEST(GuessController, WithoutABoundItNeverStops) {
  GuessController controller({.bytes_per_step = 1, .bytes_per_second = 1, .least_hits_per_mb = 0});
  absl::Time now = kStart;
  EXPECT_EQ(StepsUntilItTurns(controller, 0, now), 0);
}

TEST(GuessController, BytesOfAStepAndOfASecondAreBounded) {
  GuessController controller(kBounds);
  // A second's bytes may be spent at once, a step's bound at a time.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(controller.Allowance(kStart), 100'000u);
    controller.Spend(100'000);
  }
  EXPECT_EQ(controller.Allowance(kStart), 0u);
  EXPECT_EQ(controller.Allowance(kStart + absl::Milliseconds(50)), 50'000u);
  EXPECT_EQ(controller.Allowance(kStart + absl::Milliseconds(20)), 50'000u) << "an earlier time";
  controller.Spend(50'000);
  EXPECT_EQ(controller.Allowance(kStart + absl::Milliseconds(50)), 0u);
  EXPECT_EQ(controller.Allowance(kStart + absl::Hours(1)), 100'000u);
  for (int i = 0; i < 10; ++i) controller.Spend(100'000);
  EXPECT_EQ(controller.Allowance(kStart + absl::Hours(1)), 0u) << "no more than a second's bytes";
}

}  // namespace
}  // namespace engram

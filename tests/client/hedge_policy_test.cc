#include "client/hedge_policy.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

constexpr absl::Duration kLeast = absl::Milliseconds(1);

TEST(HedgePolicy, KnowsNoDelayBeforeEightAnswers) {
  HedgePolicy policy(0.05, kLeast);
  for (int i = 0; i < 7; ++i) policy.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_EQ(policy.Delay(100), absl::InfiniteDuration());
  policy.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_LT(policy.Delay(100), absl::Milliseconds(20));
  EXPECT_GT(policy.Delay(100), absl::Milliseconds(5));
}

TEST(HedgePolicy, SteadyAnswersBringTheDelayDownToThem) {
  HedgePolicy policy(0.05, kLeast);
  for (int i = 0; i < 100; ++i) policy.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(policy.Delay(100)), 5, 0.1);
  for (int i = 0; i < 100; ++i) policy.OnAnswer(5000, absl::Microseconds(10));
  EXPECT_EQ(policy.Delay(5000), kLeast);
}

TEST(HedgePolicy, SizesAreApart) {
  HedgePolicy policy(0.05, kLeast);
  for (int i = 0; i < 100; ++i) policy.OnAnswer(16384, absl::Milliseconds(50));
  EXPECT_EQ(policy.Delay(16), absl::InfiniteDuration());
  EXPECT_EQ(policy.Delay(0), absl::InfiniteDuration());
}

TEST(HedgePolicy, TheBudgetIsAShareOfTheRequests) {
  HedgePolicy policy(0.05, kLeast);
  int burst = 0;
  while (policy.Spend()) ++burst;
  EXPECT_EQ(burst, 16);
  int spent = 0;
  for (int i = 0; i < 1000; ++i) {
    policy.OnRequest();
    spent += policy.Spend() ? 1 : 0;
  }
  EXPECT_NEAR(spent, 50, 1);
}

TEST(HedgePolicy, AShareOfNoneIsNever) {
  HedgePolicy policy(0, kLeast);
  for (int i = 0; i < 100; ++i) policy.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_EQ(policy.Delay(100), absl::InfiniteDuration());
}

}  // namespace
}  // namespace engram

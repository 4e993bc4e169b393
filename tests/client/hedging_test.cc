#include "client/hedging.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

TEST(AnswerTimes, KnowNothingBeforeFourAnswers) {
  AnswerTimes times;
  for (int i = 0; i < 3; ++i) times.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_EQ(times.LateAfter(100), absl::InfiniteDuration());
  times.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_LT(times.LateAfter(100), absl::Milliseconds(20));
  EXPECT_GT(times.LateAfter(100), absl::Milliseconds(5));
}

TEST(AnswerTimes, SteadyAnswersBringLateDownToThem) {
  AnswerTimes times;
  for (int i = 0; i < 100; ++i) times.OnAnswer(100, absl::Milliseconds(5));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(times.LateAfter(100)), 5, 0.1);
}

TEST(AnswerTimes, SizesAreApart) {
  AnswerTimes times;
  for (int i = 0; i < 100; ++i) times.OnAnswer(16384, absl::Milliseconds(50));
  EXPECT_EQ(times.LateAfter(16), absl::InfiniteDuration());
  EXPECT_EQ(times.LateAfter(0), absl::InfiniteDuration());
}

TEST(SecondRequestBudget, IsAShareOfTheRequests) {
  SecondRequestBudget budget(0.05);
  int burst = 0;
  while (budget.Spend()) ++burst;
  EXPECT_EQ(burst, 16);
  int spent = 0;
  for (int i = 0; i < 1000; ++i) {
    budget.OnRequest();
    spent += budget.Spend() ? 1 : 0;
  }
  EXPECT_NEAR(spent, 50, 1);
}

TEST(SecondRequestBudget, AShareOfNoneIsNever) {
  SecondRequestBudget budget(0);
  EXPECT_FALSE(budget.Spend());
}

}  // namespace
}  // namespace engram

#include "service/turns.h"

#include <gtest/gtest.h>

#include <string>

namespace engram {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(Turns, GoRound) {
  Turns turns;
  std::string taken;
  Turns::Turn a([&] { taken += 'a'; }), b([&] { taken += 'b'; }), c([&] { taken += 'c'; }),
      d([&] { taken += 'd'; });
  turns.Add(a);
  turns.Add(b);
  turns.Add(c, true);
  turns.Add(d, true);
  turns.Add(b, true);  // It waits already.
  turns.Add(c);
  while (turns.GiveOne()) {
  }
  EXPECT_EQ(taken, "cdab");
  EXPECT_FALSE(turns.waiting());
  turns.Add(a, true);
  turns.Add(b);
  EXPECT_TRUE(turns.waiting());
  turns.Remove(a);
  turns.Remove(b);
  EXPECT_FALSE(turns.waiting());
  EXPECT_FALSE(turns.GiveOne());
}

TEST(Lateness, OnceSomethingWasLateNothingIsBegunAtItsEnd) {
  Lateness lateness;
  // Received at 0, with until 400.
  const auto too_late = [&](bool begun, int64_t now) {
    return lateness.TooLate(begun, 0, 400, now);
  };
  EXPECT_FALSE(too_late(false, 399));
  EXPECT_FALSE(too_late(true, 400));
  EXPECT_FALSE(lateness.late(400));
  EXPECT_TRUE(too_late(true, 401));
  EXPECT_TRUE(lateness.late(401));
  EXPECT_TRUE(too_late(false, 399));
  EXPECT_TRUE(too_late(false, 376));
  EXPECT_FALSE(too_late(false, 375));
  EXPECT_FALSE(too_late(true, 399)) << "half of it is there";
  EXPECT_FALSE(lateness.TooLate(false, 0, INT64_MAX, 399)) << "it has no deadline";
}

TEST(Lateness, WhatIsCancelledAtItsEndWasLate) {
  Lateness lateness;
  lateness.OnCancel(0, 400, 375);
  EXPECT_FALSE(lateness.late(376));
  lateness.OnCancel(0, INT64_MAX, 375);
  EXPECT_FALSE(lateness.late(376));
  lateness.OnCancel(0, 400, 376);
  EXPECT_TRUE(lateness.late(377));
}

TEST(Lateness, LastsForASecondAfterTheLast) {
  Lateness lateness;
  EXPECT_TRUE(lateness.TooLate(false, 0, 5, 10));
  EXPECT_TRUE(lateness.late(kSecond + 9));
  EXPECT_FALSE(lateness.late(kSecond + 10));
  // What is not begun is not late: it does not make it last.
  EXPECT_TRUE(lateness.TooLate(false, 0, kSecond + 100, kSecond));
  EXPECT_FALSE(lateness.TooLate(false, 0, kSecond + 100, kSecond + 10));
}

}  // namespace
}  // namespace engram

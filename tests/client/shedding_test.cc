#include "client/shedding.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

const absl::Time kBegin = absl::FromUnixSeconds(1000);
constexpr uint64_t kMega = 1 << 20;

TEST(Shedding, NothingIsRefusedWhereNothingWasLate) {
  Shedding shedding;
  for (int i = 0; i < 100; ++i) shedding.OnAnswer(16 * kMega, absl::Seconds(5));
  EXPECT_EQ(shedding.Missing(99 * kMega, kMega, absl::Milliseconds(1), kBegin),
            absl::ZeroDuration());
}

TEST(Shedding, SaysHowMuchTimeIsMissing) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  const auto missing_ms = [&](uint64_t before, uint64_t bytes, absl::Duration left) {
    return absl::ToDoubleMilliseconds(shedding.Missing(before, bytes, left, kBegin));
  };
  EXPECT_NEAR(missing_ms(31 * kMega, kMega, absl::Milliseconds(200)), 280, 0.01);
  EXPECT_EQ(missing_ms(31 * kMega, kMega, absl::Milliseconds(481)), 0);
  EXPECT_EQ(missing_ms(1, kMega - 1, absl::Microseconds(1)), 0) << "few bytes";
  EXPECT_EQ(missing_ms(0, 32 * kMega, absl::Microseconds(1)), 0) << "it waits for none";
}

// It was alone and late, twice: others ask for too much.
TEST(Shedding, AsksAgainAfterAWhileThatDoubles) {
  Shedding shedding;
  absl::Time now = kBegin;
  const auto waits_ms = [&](uint64_t before = 0) {
    return absl::ToInt64Milliseconds(shedding.Missing(before, kMega, absl::Seconds(1), now));
  };
  // As soon as it may be asked for; it takes half a second.
  const auto miss = [&] {
    now += absl::Milliseconds(waits_ms() + 500);
    shedding.OnMiss(0, kMega, absl::Milliseconds(500), now);
  };
  miss();
  EXPECT_EQ(waits_ms(), 0) << "it may have stood still";
  miss();
  EXPECT_EQ(waits_ms(), 250);
  EXPECT_EQ(waits_ms(1), 250);
  now += absl::Milliseconds(100);
  EXPECT_EQ(waits_ms(), 150);
  for (const int pause : {500, 1000, 2000, 2000}) {
    miss();
    EXPECT_EQ(waits_ms(), pause);
  }
  // What had others before it says nothing of other clients.
  now += absl::Seconds(2);
  shedding.OnMiss(kMega, kMega, absl::Milliseconds(500), now);
  EXPECT_EQ(waits_ms(), 0);
  // Each answer takes one miss back.
  for (int i = 0; i < 3; ++i) shedding.OnAnswer(kMega, absl::Milliseconds(300));
  miss();
  EXPECT_EQ(waits_ms(), 500);
  // A second without any of it, and it is forgotten.
  now += absl::Milliseconds(1501);
  miss();
  EXPECT_EQ(waits_ms(), 0);
}

TEST(Shedding, AServerThatStoodStillIsNotRefusedForEver) {
  Shedding shedding;
  for (int i = 0; i < 3; ++i) shedding.OnMiss(0, 16 * kMega, absl::Seconds(30), kBegin);
  absl::Time now = kBegin;
  while (shedding.Missing(0, 16 * kMega, absl::Milliseconds(500), now) > absl::ZeroDuration()) {
    now += absl::Milliseconds(1);
  }
  EXPECT_LE(now, kBegin + absl::Seconds(1));
  // It is asked for one at a time until that has set the measure right.
  const auto refuses = [&] {
    return shedding.Missing(16 * kMega, kMega, absl::Milliseconds(500), now) > absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses());
  for (int i = 0; i < 20; ++i) shedding.OnAnswer(16 * kMega, absl::Milliseconds(50));
  EXPECT_FALSE(refuses());
}

TEST(Shedding, LastsWhileSomethingIsRefused) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  const auto refuses = [&](absl::Duration at, absl::Duration left) {
    return shedding.Missing(15 * kMega, kMega, left, kBegin + at) > absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses(absl::Milliseconds(900), absl::Milliseconds(1)));
  EXPECT_TRUE(refuses(absl::Milliseconds(1800), absl::Milliseconds(1)));
  EXPECT_FALSE(refuses(absl::Milliseconds(2700), absl::Milliseconds(300)));
  EXPECT_FALSE(refuses(absl::Milliseconds(2900), absl::Milliseconds(1)));
}

TEST(Shedding, AServerThatIsQuickAgainIsSoonAskedForAll) {
  Shedding shedding;
  for (int i = 0; i < 10; ++i) shedding.OnAnswer(kMega, absl::Seconds(2));
  shedding.OnMiss(kBegin);
  const auto refuses = [&] {
    return shedding.Missing(15 * kMega, kMega, absl::Milliseconds(500), kBegin) >
           absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses());
  // Small answers take long by their bytes.
  for (int i = 0; i < 32; ++i) shedding.OnAnswer(50'000, absl::Microseconds(200));
  EXPECT_FALSE(refuses());
  // They do not say that it is slow.
  for (int i = 0; i < 100; ++i) shedding.OnAnswer(50'000, absl::Milliseconds(20));
  EXPECT_FALSE(refuses());
}

TEST(Shedding, AsksNothingBeforeTheServerSaysSo) {
  Shedding shedding;
  shedding.OnRefused(absl::Milliseconds(300), kBegin);
  const auto waits_ms = [&](int64_t at_ms) {
    return absl::ToInt64Milliseconds(
        shedding.Missing(0, kMega, absl::Seconds(1), kBegin + absl::Milliseconds(at_ms)));
  };
  EXPECT_EQ(waits_ms(100), 200);
  shedding.OnRefused(absl::Milliseconds(50), kBegin + absl::Milliseconds(100));
  EXPECT_EQ(waits_ms(100), 200) << "the later of two";
  EXPECT_EQ(waits_ms(299), 1);
  EXPECT_EQ(waits_ms(300), 0);
}

}  // namespace
}  // namespace engram

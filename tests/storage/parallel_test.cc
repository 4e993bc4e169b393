#include "storage/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

class ParallelTest : public ::testing::Test {
 protected:
  ParallelOptions Options(uint32_t threads) {
    return {threads, "loading", [this](absl::string_view line) { log_.emplace_back(line); },
            /*progress=*/nullptr, absl::ZeroDuration()};
  }
  std::vector<std::string> log_;
};

TEST_F(ParallelTest, EveryBlockIsWorkedOnOnce) {
  for (const uint32_t threads : {0u, 1u, 7u}) {
    std::vector<std::atomic<int>> done(100);
    EXPECT_THAT(ForEachInParallel(done.size(), 0, Options(threads),
                                  [&](uint64_t i, uint64_t&) {
                                    ++done[i];
                                    return absl::OkStatus();
                                  }),
                IsOk());
    for (const std::atomic<int>& times : done) EXPECT_EQ(times, 1);
  }
  EXPECT_THAT(ForEachInParallel(0, 0, Options(2),
                                [](uint64_t, uint64_t&) { return absl::InternalError("none"); }),
              IsOk());
}

TEST_F(ParallelTest, ProgressHasShareRateAndTimeLeft) {
  EXPECT_THAT(ForEachInParallel(4, 8'000'000'000, Options(1),
                                [](uint64_t, uint64_t& bytes) {
                                  bytes = 2'000'000'000;
                                  return absl::OkStatus();
                                }),
              IsOk());
  const std::string rest = " % of 8\\.00 GB, [0-9]+\\.[0-9][0-9] GB/s, [0-9]+ s left";
  EXPECT_THAT(log_,
              ElementsAre(MatchesRegex("loading: 25" + rest), MatchesRegex("loading: 50" + rest),
                          MatchesRegex("loading: 75" + rest),
                          MatchesRegex("loading: 100 % of .* GB/s, 0 s left"),
                          MatchesRegex("loading: 8\\.00 GB in [0-9.]+ s")));
}

// What has been done so far says how long the rest takes.
TEST_F(ParallelTest, TheTimeLeftIsOfTheRateSoFar) {
  ParallelOptions options = Options(1);
  double seconds = 0, left = 0, rate = 0;
  const absl::Time start = absl::Now();
  options.log = [&](absl::string_view line) {
    if (left != 0) return;
    seconds = absl::ToDoubleSeconds(absl::Now() - start);
    ASSERT_EQ(sscanf(std::string(line).c_str(), "loading: 1 %% of 100.00 GB, %lf GB/s, %lf s left",
                     &rate, &left),
              2)
        << line;
  };
  EXPECT_THAT(ForEachInParallel(2, 100'000'000'000, options,
                                [&](uint64_t, uint64_t& bytes) {
                                  while (absl::Now() < start + absl::Milliseconds(20)) continue;
                                  bytes = 1'000'000'000;
                                  return absl::OkStatus();
                                }),
              IsOk());
  EXPECT_LE(rate, 1 / 0.02 + 1);
  EXPECT_GE(left, 99 * 0.02 - 1);
  EXPECT_LE(left, 99 * seconds + 1);
}

TEST_F(ParallelTest, TheFirstFailureEndsItAndIsSaid) {
  for (const uint32_t threads : {1u, 3u}) {
    std::atomic<int> calls{0};
    const auto fail = [&](uint64_t i, uint64_t&) {
      ++calls;
      return i == 3 ? absl::DataLossError("block 3") : absl::OkStatus();
    };
    EXPECT_THAT(ForEachInParallel(1000, 0, Options(threads), fail),
                StatusIs(absl::StatusCode::kDataLoss, "block 3"));
    EXPECT_TRUE(threads != 1 || calls == 4) << calls;
  }
  // No line says that it is done.
  for (const std::string& line : log_) EXPECT_THAT(line, testing::HasSubstr(" s left"));
}

TEST_F(ParallelTest, NoLineBeforeItsTime) {
  ParallelOptions options = Options(1);
  options.log_every = absl::InfiniteDuration();
  const auto fail = [](uint64_t i, uint64_t&) {
    return i == 9 ? absl::InternalError("the last") : absl::OkStatus();
  };
  EXPECT_THAT(ForEachInParallel(10, 10, options, fail),
              StatusIs(absl::StatusCode::kInternal, "the last"));
  EXPECT_THAT(log_, IsEmpty());
}

}  // namespace
}  // namespace engram

#include "client/ngrams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace engram {
namespace {

using Source = NgramFold::Source;

TEST(NgramColumns, AreTheOrdersOfTheRange) {
  const NgramColumns all(8, {0, 24});
  EXPECT_EQ(all.parts(), 3u);
  EXPECT_EQ(all.max_size(), 8u);
  EXPECT_EQ(all.First(4), 24u + 8u);  // token 1, part 1
  EXPECT_EQ(all.order(2), 2u);
  const NgramColumns rank(8, {6, 18});
  EXPECT_EQ(rank.parts(), 3u);
  EXPECT_EQ(rank.size(0), 2u);
  EXPECT_EQ(rank.size(1), 8u);
  EXPECT_EQ(rank.size(2), 2u);
  EXPECT_EQ(rank.First(5), 12u + 10u);
  const NgramColumns within(8, {17, 20});
  EXPECT_EQ(within.parts(), 1u);
  EXPECT_EQ(within.order(0), 2u);
}

// Few different ids, some of them none, against a map of the n-grams seen.
TEST(NgramDedup, FindsWhatAMapFinds) {
  std::mt19937_64 random(7);
  NgramDedup dedup;
  NgramFold fold;
  for (const ColumnRange range : {ColumnRange{0, 6}, ColumnRange{1, 5}, ColumnRange{2, 3}}) {
    const NgramColumns columns(2, range);
    for (int round = 0; round < 200; ++round) {
      const size_t tokens = random() % 100;
      std::vector<int64_t> ids(tokens * columns.columns());
      for (int64_t& id : ids) id = static_cast<int64_t>(random() % 5) - (round % 2 == 0 ? 1 : 0);
      const size_t ngrams = tokens * columns.parts();
      fold.Reset(ngrams);
      const size_t duplicates = dedup.Run(ids, columns, fold);
      std::map<std::vector<int64_t>, std::vector<uint32_t>> seen;
      size_t expected = 0;
      for (uint32_t u = 0; u < ngrams; ++u) {
        const auto first = ids.begin() + columns.First(u);
        const std::vector<int64_t> key(first, first + columns.Size(u));
        const bool whole = IsWhole(key);
        auto& same = seen[key];
        ASSERT_EQ(fold.source[u], whole && !same.empty() ? Source::kDuplicate : Source::kFetch);
        expected += whole && !same.empty() ? 1 : 0;
        same.push_back(u);
      }
      EXPECT_EQ(duplicates, expected);
      for (const auto& [key, same] : seen) {
        if (!IsWhole(key)) continue;
        std::vector<uint32_t> linked;
        for (uint32_t u = same[0]; linked.empty() || u != 0; u = fold.next[u]) linked.push_back(u);
        EXPECT_THAT(linked, testing::UnorderedElementsAreArray(same));
      }
    }
  }
}

// What earlier batches left in the table is never taken for this one's.
TEST(NgramDedup, ForgetsEarlierBatches) {
  NgramDedup dedup;
  NgramFold fold;
  const NgramColumns columns(1, {0, 1});
  const std::vector<int64_t> ids = {3, 5, 3};
  for (int batch = 0; batch < 70'000; ++batch) {
    fold.Reset(ids.size());
    ASSERT_EQ(dedup.Run(ids, columns, fold), 1u) << batch;
  }
}

TEST(Payoff, GivesUpWhatNeverPaysButForATryNowAndThen) {
  Payoff payoff(0.1);
  std::vector<int> tries;
  for (int i = 0; i < 1000; ++i) {
    if (!payoff.Try()) continue;
    tries.push_back(i);
    payoff.Learn(100, 0, 0.5);
  }
  // 1, 1/2, 1/4, 1/8: the fourth says that it is below 0.1.
  EXPECT_EQ(tries, (std::vector<int>{0, 1, 2, 3, 19, 51, 115, 243, 371, 499, 627, 755, 883}));
  while (!payoff.Try()) {
  }
  payoff.Learn(100, 100, 0.5);  // and takes it up again
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(payoff.Try());
    payoff.Learn(100, 50, 0.5);
  }
}

}  // namespace
}  // namespace engram

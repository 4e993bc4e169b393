#include "client/sequence_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr uint32_t kNo = SequenceText::kNoToken;

SequenceText TextOf(std::vector<uint32_t> ids, uint32_t most = 1024) {
  SequenceText text(most);
  for (const uint32_t id : ids) text.Append(id);
  return text;
}

std::vector<std::pair<uint32_t, uint32_t>> MatchesOf(const SequenceText& text, uint32_t order) {
  std::vector<std::pair<uint32_t, uint32_t>> matches;
  text.ForEachMatch(order, [&](uint32_t next, uint32_t length) {
    matches.emplace_back(next, length);
    return true;
  });
  return matches;
}

TEST(SequenceText, FindsWhereItsEndStoodBefore) {
  const SequenceText text = TextOf({1, 2, 3, 9, 2, 5, 1, 2, 4, 7, 1, 2});
  EXPECT_THAT(MatchesOf(text, 2), ElementsAre(Pair(4, 2), Pair(3, 2)));
  EXPECT_THAT(MatchesOf(text, 1), ElementsAre(Pair(4, 2), Pair(5, 1), Pair(3, 2)));
  EXPECT_EQ(text.Last(0), 2u);
  EXPECT_EQ(text.Last(1), 1u);
  EXPECT_EQ(text.Last(12), kNo);
}

TEST(SequenceText, SaysHowMuchIsTheSameUpToItsLongest) {
  EXPECT_THAT(MatchesOf(TextOf({1, 2, 3, 4, 5, 8, 1, 2, 3, 4, 5}), 2), ElementsAre(Pair(8, 4)));
  EXPECT_THAT(MatchesOf(TextOf({7, 7, 7}), 2), ElementsAre(Pair(7, 2)));
}

TEST(SequenceText, StopsWhenToldTo) {
  int visits = 0;
  TextOf({1, 1, 1, 1, 1, 1}).ForEachMatch(1, [&](uint32_t, uint32_t) { return ++visits < 2; });
  EXPECT_EQ(visits, 2);
}

TEST(SequenceText, NothingReachesAcrossAGap) {
  EXPECT_THAT(MatchesOf(TextOf({1, kNo, 2, 8, 1, 2}), 2), IsEmpty());
  EXPECT_THAT(MatchesOf(TextOf({1, 2, kNo, 1, 2}), 2), IsEmpty()) << "a gap is no successor";
  EXPECT_THAT(MatchesOf(TextOf({5, 6, 1, kNo}), 1), IsEmpty());
  EXPECT_THAT(MatchesOf(TextOf({1, 2, 5, kNo, 2}), 1), ElementsAre(Pair(5, 1)));
  EXPECT_THAT(MatchesOf(SequenceText(8), 1), IsEmpty());
  EXPECT_THAT(MatchesOf(TextOf({3}), 2), IsEmpty());
}

// Against a plain search of what is to be remembered.
TEST(SequenceText, RemembersTheNewestTokensAlone) {
  for (const uint32_t most : {2u, 16u, 100u, 1024u}) {
    const uint32_t kept = most == 100 ? 128 : most;
    std::mt19937 random(most);
    SequenceText text(most);
    std::vector<uint32_t> all;
    for (size_t i = 0; i < 3000; ++i) {
      all.push_back(static_cast<uint32_t>(random() % 40));
      text.Append(all.back());
      const size_t n = all.size(), first = n > kept ? n - kept : 0;
      std::vector<uint32_t> expected;
      for (size_t end = n - 1; end-- > first + 1;) {
        if (all[end] == all[n - 1] && all[end - 1] == all[n - 2]) expected.push_back(all[end + 1]);
      }
      std::vector<uint32_t> found;
      for (const auto& [next, length] : MatchesOf(text, 2)) found.push_back(next);
      // It does not look further than at so many places.
      ASSERT_LE(found.size(), expected.size());
      if (expected.size() >= 8) continue;
      ASSERT_EQ(found, expected) << "token " << i << " of " << most;
    }
    EXPECT_EQ(text.bytes(), 20u * kept);
  }
}

TEST(SequenceText, MemoryGrowsWithTheText) {
  const SequenceText text = TextOf({1, 2, 3}, 1 << 20);
  EXPECT_LE(text.bytes(), 2000u);
}

}  // namespace
}  // namespace engram

#include "client/guesser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::vector<uint32_t> IdsOf(const std::vector<Guess>& guesses) {
  std::vector<uint32_t> ids;
  for (const Guess& guess : guesses) ids.push_back(guess.id);
  return ids;
}

std::vector<uint32_t> Propose(Guesser& guesser, std::vector<uint32_t> ids) {
  SequenceText text(1024);
  for (const uint32_t id : ids) text.Append(id);
  std::vector<Guess> guesses;
  guesser.Propose(text, guesses);
  return IdsOf(guesses);
}

// One of 50 ids, every other time the same.
uint32_t Any(std::minstd_rand& random) {
  return random() % 2 == 0 ? 0 : static_cast<uint32_t>(random() % 50);
}

TEST(Guesser, TheOwnTextComesFirst) {
  ASSERT_OK_AND_ASSIGN(const Successors counted,
                       CountSuccessors({{1, 2, 3, 7, 2, 4}}, Sha256{}, 1 << 20));
  Guesser guesser(&counted);
  // Own text after "1 2", the corpus after "1 2", then the corpus after "2".
  EXPECT_THAT(Propose(guesser, {1, 2, 5, 1, 2}), ElementsAre(5, 3, 4));
  EXPECT_THAT(Propose(guesser, {9, 2}), UnorderedElementsAre(3, 4));
  EXPECT_THAT(Propose(guesser, {9}), IsEmpty());
  EXPECT_THAT(Propose(guesser, {2, SequenceText::kNoToken}), IsEmpty());
  EXPECT_THAT(Propose(guesser, {}), IsEmpty());
}

TEST(Guesser, NeedsNoCorpus) {
  Guesser guesser(nullptr);
  EXPECT_THAT(Propose(guesser, {1, 2, 3, 1, 2}), ElementsAre(3));
  EXPECT_THAT(Propose(guesser, {1, 2, 3}), IsEmpty());
}

TEST(Guesser, AllAreDifferentAndTheLikeliestFirst) {
  std::minstd_rand random(1);
  TokenTrace corpus(1);
  for (int i = 0; i < 20'000; ++i) corpus[0].push_back(Any(random));
  ASSERT_OK_AND_ASSIGN(const Successors counted, CountSuccessors(corpus, Sha256{}, 1 << 20));
  Guesser guesser(&counted);
  SequenceText text(256);
  std::vector<Guess> guesses;
  for (int i = 0; i < 5000; ++i) {
    guesser.Propose(text, guesses);
    ASSERT_LE(guesses.size(), Guesser::kMost);
    for (size_t k = 1; k < guesses.size(); ++k) {
      ASSERT_GE(guesses[k - 1].probability, guesses[k].probability);
    }
    std::vector<uint32_t> ids = IdsOf(guesses);
    std::sort(ids.begin(), ids.end());
    ASSERT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
    const uint32_t id = Any(random);
    guesser.Learn(guesses, id);
    text.Append(id);
  }
}

// Probabilities are those of the text at hand, whatever the first estimates were.
TEST(Guesser, ProbabilitiesAreLearned) {
  const auto average = [](Guesser& guesser, bool repeats) {
    std::minstd_rand random(2);
    SequenceText text(4096);
    std::vector<Guess> guesses;
    double sum = 0;
    for (uint32_t i = 0; i < 4000; ++i) {
      guesser.Propose(text, guesses);
      if (i >= 3000) {
        for (const Guess& guess : guesses) sum += guess.probability;
      }
      const uint32_t id = repeats ? i % 97 : static_cast<uint32_t>(random() % 97);
      guesser.Learn(guesses, id);
      text.Append(id);
    }
    return sum / 1000;
  };
  Guesser guesser(nullptr);
  EXPECT_GT(average(guesser, true), 0.99);
  EXPECT_LT(average(guesser, false), 0.3);
  EXPECT_GT(average(guesser, true), 0.9) << "it learns anew";
}

}  // namespace
}  // namespace engram

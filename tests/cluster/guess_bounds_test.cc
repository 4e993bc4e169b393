// What guesses may cost, and who may guess.
#include <gtest/gtest.h>

#include <random>

#include "client/guesses.h"
#include "proto/base/file.h"
#include "tests/cluster/guesses_fixture.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

class GuessBoundsTest : public GuessesTest {
 protected:
  uint32_t Any() { return static_cast<uint32_t>(random_()) % kFakeTokens; }

  std::mt19937 random_{3};
};

TEST_F(GuessBoundsTest, StopsOnTextThatCannotBeGuessedAndStartsAgain) {
  options_.least_hits_per_mb = 60;  // a sure guess gives 315, eight by lot about 5
  options_.least_probability = 0.01;
  Start(1);
  const auto repeats = [&](int steps) {
    for (int i = 0; i < steps; ++i) ASSERT_NO_FATAL_FAILURE(Step({Repeated()}));
  };
  const auto by_lot = [&](int steps) {
    for (int i = 0; i < steps; ++i) ASSERT_NO_FATAL_FAILURE(Step({Any()}));
  };
  ASSERT_NO_FATAL_FAILURE(repeats(200));
  EXPECT_TRUE(guesses_->on());
  EXPECT_EQ(client_->stats().guess_stops, 0u);
  EXPECT_GT(client_->stats().guess_steps_spared, 100u);

  ASSERT_NO_FATAL_FAILURE(by_lot(300));
  EXPECT_FALSE(guesses_->on());
  EXPECT_EQ(client_->stats().guess_stops, 1u);
  const ClientStats stopped = client_->stats();
  ASSERT_NO_FATAL_FAILURE(by_lot(300));
  EXPECT_EQ(client_->stats().guess_bytes, stopped.guess_bytes) << "looking costs no bytes";
  EXPECT_EQ(client_->stats().guess_hits, stopped.guess_hits);

  ASSERT_NO_FATAL_FAILURE(repeats(500));
  EXPECT_TRUE(guesses_->on());
  EXPECT_EQ(client_->stats().guess_starts, 1u);
  EXPECT_GT(client_->stats().guess_hits, stopped.guess_hits + 100);
}

TEST_F(GuessBoundsTest, ASequenceThatHoldsUpItsStepMakesGuessingWorthless) {
  options_.least_hits_per_mb = 20;
  options_.least_probability = 0.01;
  Start(2);
  for (int i = 0; i < 300; ++i) ASSERT_NO_FATAL_FAILURE(Step({Repeated(), Any()}));
  EXPECT_FALSE(guesses_->on());
  Start(2);
  for (int i = 0; i < 300; ++i) ASSERT_NO_FATAL_FAILURE(Step({Repeated(), Repeated() + 10}));
  EXPECT_TRUE(guesses_->on());
}

TEST_F(GuessBoundsTest, BytesOfAStepAreBounded) {
  options_.bytes_per_step = 3 * kGuessBytes + 1;
  Start(2);
  for (int i = 0; i < 100; ++i) {
    const uint64_t before = client_->stats().guess_bytes;
    ASSERT_NO_FATAL_FAILURE(Step({Any() % 8, Any() % 8}));
    EXPECT_LE(client_->stats().guess_bytes - before, 3 * kGuessBytes);
  }
  EXPECT_GT(client_->stats().guess_hits, 0u);
}

TEST_F(GuessBoundsTest, BytesOfASecondAreBounded) {
  options_.bytes_per_second = 100 * kGuessBytes;
  Start(1);
  for (int i = 0; i < 400; ++i) ASSERT_NO_FATAL_FAILURE(Step({Any() % 8}));  // 5 ms each
  const uint64_t bytes = client_->stats().guess_bytes;
  EXPECT_LE(bytes, 301 * kGuessBytes);
  EXPECT_GT(bytes, 250 * kGuessBytes);
}

TEST_F(GuessBoundsTest, UnlikelyGuessesAreNotFetched) {
  options_.least_probability = 0.9;
  Start(1);
  for (int i = 0; i < 200; ++i) ASSERT_NO_FATAL_FAILURE(Step({Any()}));
  EXPECT_EQ(client_->stats().guess_bytes, 0u);
}

TEST_F(GuessBoundsTest, OtherPrefetchesComeFirst) {
  ASSERT_OK_AND_ASSIGN(client_,
                       cluster_.Connect({.servers = {}, .max_prefetch_bytes = 10 * kGuessBytes}));
  Start(1);
  LookBack state;
  const std::vector<uint32_t> prompt(10, 1);
  ASSERT_OK_AND_ASSIGN(Prefetch all, Prefetch::Start(*client_, prompt, {}, state, {}));
  for (int i = 0; i < 9; ++i) ASSERT_NO_FATAL_FAILURE(Step({Repeated()}));
  EXPECT_EQ(client_->stats().guess_bytes, 0u);
  ASSERT_THAT(all.Wait(), IsOk());
  all = Prefetch();
  ASSERT_NO_FATAL_FAILURE(Repeat(9));
  EXPECT_GT(client_->stats().guess_bytes, 0u);
}

TEST_F(GuessBoundsTest, WrongOptionsAreNamed) {
  const auto create = [&](auto change) {
    GuessOptions options;
    change(options);
    return Guesses::Create(*client_, options).status();
  };
  constexpr Code kBad = Code::kInvalidArgument;
  EXPECT_THAT(create([](GuessOptions&) {}), IsOk());
  EXPECT_THAT(create([](GuessOptions& o) { o.candidates = 0; }), StatusIs(kBad, "`candidates`"));
  EXPECT_THAT(create([](GuessOptions& o) { o.candidates = 17; }),
              StatusIs(kBad, "`candidates` is not in [1, 16]"));
  EXPECT_THAT(create([](GuessOptions& o) { o.least_probability = 1; }),
              StatusIs(kBad, "`least_probability` is not in [0, 1)"));
  EXPECT_THAT(create([](GuessOptions& o) { o.least_hits_per_mb = -1; }),
              StatusIs(kBad, "`least_hits_per_mb` is negative"));
  EXPECT_THAT(create([](GuessOptions& o) { o.bytes_per_step = 0; }),
              StatusIs(kBad, "`bytes_per_step` is 0"));
  EXPECT_THAT(create([](GuessOptions& o) { o.bytes_per_second = 0; }),
              StatusIs(kBad, "`bytes_per_second` is 0"));
  EXPECT_THAT(create([](GuessOptions& o) { o.text_tokens = 1; }),
              StatusIs(kBad, "`text_tokens` is less than 2"));
  EXPECT_THAT(create([](GuessOptions& o) { o.timeout = absl::ZeroDuration(); }),
              StatusIs(kBad, "`timeout` is not positive"));
  EXPECT_THAT(create([](GuessOptions& o) { o.layers = {2}; }), StatusIs(Code::kNotFound, "2"));
  EXPECT_THAT(create([](GuessOptions& o) {
                o.columns = {0, 7};
              }),
              StatusIs(kBad, "columns [0, 7)"));
}

TEST_F(GuessBoundsTest, CountsOfAnotherModelAreRefused) {
  const std::string path = testing::TempDir() + "/guess_bounds_test.succ";
  const auto create = [&](const TokenTrace& text, Sha256 map) {
    EXPECT_THAT(WriteSuccessors(path, *CountSuccessors(text, map, 1 << 20)), IsOk());
    return Guesses::Create(*client_, {.successors = path}).status();
  };
  Sha256 map = client_->token_map()->sha256();
  EXPECT_THAT(create({{1, 2, kFakeCompressed - 1}}, map), IsOk());
  EXPECT_THAT(create({}, map), IsOk());
  EXPECT_THAT(create({{1, 2, kFakeCompressed}}, map),
              StatusIs(Code::kInvalidArgument, "compressed id 60 is beyond the vocabulary of 60"));
  map[0] ^= 1;
  EXPECT_THAT(create({{1, 2}}, map), StatusIs(Code::kFailedPrecondition, "are of token map"));
  ASSERT_THAT(WriteFileAtomically(path, "something"), IsOk());
  EXPECT_THAT(Guesses::Create(*client_, {.successors = path}),
              StatusIs(Code::kInvalidArgument, path + ": is no such file"));
  EXPECT_THAT(Guesses::Create(*client_, {.successors = path + "-none"}),
              StatusIs(Code::kNotFound, path));
}

}  // namespace
}  // namespace engram

// Slots against real servers: what they hold, and when their words say so.
#include "client/slot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "absl/time/clock.h"
#include "tests/cluster/slot_fixture.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

// True when the word has left kWordPending within 20 seconds.
bool WaitForWord(const Slot& slot, uint32_t layer) {
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (WordOf(slot, layer) == kWordPending && absl::Now() < limit) {
  }
  return WordOf(slot, layer) != kWordPending;
}

std::vector<int32_t> Narrow(const std::vector<int64_t>& ids) {
  std::vector<int32_t> narrow;
  for (const int64_t id : ids) narrow.push_back(static_cast<int32_t>(id));
  return narrow;
}

TEST_F(SlotTest, EveryLayoutAndFormOfIds) {
  const RandomStep step(*client_, 150, 1);
  const std::vector<int32_t> narrow = Narrow(step.per_column);
  const std::vector<int32_t> narrow_global = Narrow(step.global);
  const auto forms = [&](ColumnRange columns) {
    StepIds wide = StepIds::OfArray(step.global.data(), step.tokens, 2, kFakeColumns);
    StepIds wide_own{.tokens = step.tokens, .layers = {}, .own_columns = true};
    for (const LayerIds& layer : wide.layers) {
      wide_own.layers.emplace_back(layer.wide + columns.begin, layer.token_stride);
    }
    StepIds dense{.tokens = step.tokens, .layers = {}};
    for (const auto& ids : step.of_layer) dense.layers.emplace_back(ids.data(), kFakeColumns);
    StepIds per_column = StepIds::OfArray(narrow.data(), step.tokens, 2, kFakeColumns);
    per_column.per_column = true;
    return std::vector<StepIds>{
        wide, wide_own, dense, per_column,
        StepIds::OfArray(narrow_global.data(), step.tokens, 2, kFakeColumns)};
  };
  for (const RowOrder order : {RowOrder::kTokenMajor, RowOrder::kHeadMajor}) {
    for (const bool split : {false, true}) {
      for (const ColumnRange columns : {ColumnRange{}, ColumnRange{2, 5}}) {
        const SlotOptions options{
            .max_tokens = 200, .columns = columns, .order = order, .split_scales = split};
        const auto slot = NewSlot(options);
        for (const StepIds& ids : forms(columns)) {
          ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
          ASSERT_THAT(slot->WaitAll(), IsOk());
          ExpectRows(*slot, options, 1, step.of_layer[0]);
          ExpectRows(*slot, options, 14, step.of_layer[1]);
        }
      }
    }
  }
}

TEST_F(SlotTest, MaskedTokensAreZeros) {
  RandomStep step(*client_, 100, 2);
  std::vector<uint8_t> mask(step.tokens, 0);
  for (size_t token = 0; token < mask.size(); token += 3) mask[token] = 1;
  StepIds ids = StepIds::OfArray(step.global.data(), step.tokens, 2, kFakeColumns);
  ids.mask = mask;
  const auto slot = NewSlot();
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  for (size_t i = 0; i < step.of_layer[0].size(); ++i) {
    if (mask[i / kFakeColumns] != 0) step.of_layer[0][i] = -1;
  }
  ExpectRows(*slot, {}, 1, step.of_layer[0]);
}

// 40 sequences whose chunks of 1 to 4 tokens stand side by side in every step.
TEST_F(SlotTest, ChunkedStepsEqualWholeSequences) {
  std::mt19937_64 random(3);
  std::vector<std::vector<uint32_t>> sequences(40);
  for (auto& sequence : sequences) {
    for (size_t i = 0; i < 20; ++i) {
      sequence.push_back(static_cast<uint32_t>(random() % kFakeTokens));
    }
  }
  std::vector<LookBack> states(sequences.size());
  std::vector<size_t> done(sequences.size(), 0);
  const auto slot = NewSlot({.max_tokens = 160, .layers = {14}});
  for (int step = 0; step < 5; ++step) {
    std::vector<StepChunk> chunks;
    std::vector<int64_t> expected;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const size_t count = step == 4 ? 20 - done[s] : 1 + random() % 4;
      chunks.push_back(
          {.tokens = std::span(sequences[s]).subspan(done[s], count), .state = &states[s]});
      if (step == 4) chunks.back().tokens = chunks.back().tokens.first(std::min<size_t>(count, 4));
      const std::vector<int64_t> whole = HashWhole(*client_, 14, sequences[s]);
      const size_t tokens = chunks.back().tokens.size();
      expected.insert(expected.end(),
                      whole.begin() + static_cast<ptrdiff_t>(done[s] * kFakeColumns),
                      whole.begin() + static_cast<ptrdiff_t>((done[s] + tokens) * kFakeColumns));
      done[s] += tokens;
    }
    ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
    ASSERT_THAT(slot->Wait(14), IsOk());
    ExpectRows(*slot, {}, 14, expected);
  }
}

TEST_F(SlotTest, TwoChunksOfOneSequenceInAStep) {
  const std::vector<uint32_t> tokens = {5, 6, 7, 8, 9};
  LookBack state;
  const auto slot = NewSlot();
  const std::vector<StepChunk> chunks = {{.tokens = std::span(tokens).first(2), .state = &state},
                                         {.tokens = std::span(tokens).subspan(2), .state = &state}};
  ASSERT_THAT(slot->SubmitTokens(chunks, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, {}, 1, HashWhole(*client_, 1, tokens));
  const LookBack moved = state;
  const std::vector<StepChunk> bad = {{.tokens = std::span(tokens).first(2), .state = &state},
                                      {.tokens = std::span(&kFakeTokens, 1), .state = &state}};
  EXPECT_THAT(slot->SubmitTokens(bad, {}),
              StatusIs(Code::kInvalidArgument, "token id 64 at position 2"));
  EXPECT_EQ(state, moved);
}

TEST_F(SlotTest, WordsSayReadyAfterTheRows) {
  alignas(8) uint64_t words[2] = {77, 77};
  const auto slot = NewSlot({.max_tokens = 100, .words = words});
  EXPECT_EQ(slot->word(14), &words[1]);
  EXPECT_EQ(slot->word(2), nullptr);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const RandomStep step(*client_, 100, seed);
    ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns), {}),
                IsOk());
    for (const uint32_t layer : {1u, 14u}) {
      ASSERT_TRUE(WaitForWord(*slot, layer));
      EXPECT_EQ(WordOf(*slot, layer), kWordReady);
      ExpectRows(*slot, {}, layer, step.of_layer[layer == 1 ? 0 : 1]);
    }  // Nobody waits: the words alone say that the slot is free.
  }
}

TEST_F(SlotTest, WordsAreTheStreamsToResetByChoice) {
  const auto slot = NewSlot({.max_tokens = 100, .reset_words = false});
  cluster_.store(0).Close();
  const RandomStep step(*client_, 100, 5);
  *slot->word(1) = 55;
  ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns), {}),
              IsOk());
  EXPECT_EQ(WordOf(*slot, 1), 55u);
  cluster_.store(0).Open();
  ASSERT_THAT(slot->WaitAll(), IsOk());
  EXPECT_EQ(WordOf(*slot, 1), kWordReady);
}

TEST_F(SlotTest, AStepWithoutTokensIsDoneAtOnce) {
  const auto slot = NewSlot();
  const RandomStep step(*client_, 1, 14);
  ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 0, 2, kFakeColumns), {}),
              IsOk());
  EXPECT_THAT(slot->WaitAll(), IsOk());
  EXPECT_EQ(WordOf(*slot, 14), kWordReady);
  ASSERT_THAT(slot->SubmitTokens({}, {}), IsOk());
  EXPECT_THAT(slot->WaitAll(), IsOk());
}

TEST_F(SlotTest, SeveralAreInFlightAtOnce) {
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<RandomStep> steps;
  cluster_.store(2).Close();
  for (uint64_t i = 0; i < 5; ++i) {
    slots.push_back(NewSlot());
    steps.emplace_back(*client_, 120, 100 + i);
    ASSERT_THAT(
        slots[i]->SubmitIds(StepIds::OfArray(steps[i].global.data(), 120, 2, kFakeColumns), {}),
        IsOk());
  }
  cluster_.store(2).Open();
  for (size_t i = 0; i < slots.size(); ++i) {
    ASSERT_THAT(slots[i]->WaitAll(), IsOk());
    ExpectRows(*slots[i], {}, 1, steps[i].of_layer[0]);
    ExpectRows(*slots[i], {}, 14, steps[i].of_layer[1]);
  }
}

TEST_F(SlotTest, CallsBackOnceAStep) {
  const auto slot = NewSlot();
  const RandomStep step(*client_, 50, 13);
  const StepIds ids = StepIds::OfArray(step.global.data(), 50, 2, kFakeColumns);
  std::atomic<int> calls = 0;
  LookupOptions options;
  options.on_done = [&](const absl::Status& status) {
    EXPECT_THAT(status, IsOk());
    ++calls;
  };
  for (int i = 0; i < 10; ++i) {
    ASSERT_THAT(slot->SubmitIds(ids, options), IsOk());
    ASSERT_THAT(slot->WaitAll(), IsOk());
  }
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (calls < 10 && absl::Now() < limit) {
  }
  EXPECT_EQ(calls, 10);
}

}  // namespace
}  // namespace engram

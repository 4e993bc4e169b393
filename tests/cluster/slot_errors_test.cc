// Slots when something is wrong: with the call, with servers, with the order of things.
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/prefetch.h"
#include "client/slot.h"
#include "tests/cluster/slot_fixture.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

bool AllZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

TEST_F(SlotTest, AFailedLayerIsZerosAndItsWordSaysError) {
  const SlotOptions options{.max_tokens = 100, .order = RowOrder::kHeadMajor, .split_scales = true};
  const auto slot = NewSlot(options);
  const RandomStep step(*client_, 100, 6);
  const StepIds ids = StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns);
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ASSERT_FALSE(AllZero(slot->rows(1)));
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  ASSERT_THAT(slot->SubmitIds(ids, {.timeout = absl::Milliseconds(20)}), IsOk());
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kDeadlineExceeded, "layer 1"));
  EXPECT_THAT(slot->Wait(14), StatusIs(Code::kDeadlineExceeded, "layer 14"));
  for (const uint32_t layer : {1u, 14u}) {
    EXPECT_EQ(WordOf(*slot, layer), kWordError);
    EXPECT_TRUE(AllZero(slot->rows(layer).first(100 * kFakeColumns * 256)));
    EXPECT_TRUE(AllZero(slot->scales(layer).first(100 * kFakeColumns * 8)));
  }
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  slot->Cancel();
  EXPECT_THAT(slot->WaitAll(), StatusIs(Code::kCancelled, ""));
  EXPECT_EQ(WordOf(*slot, 14), kWordError);
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Open();
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, options, 1, step.of_layer[0]);
}

TEST_F(SlotTest, WrongUseIsNamed) {
  const auto slot = NewSlot({.max_tokens = 10});
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kFailedPrecondition, "no step"));
  EXPECT_THAT(slot->WaitAll(), StatusIs(Code::kFailedPrecondition, "no step"));
  EXPECT_FALSE(slot->Done(1));
  RandomStep step(*client_, 11, 7);
  EXPECT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 11, 2, kFakeColumns), {}),
              StatusIs(Code::kInvalidArgument, "11 tokens in a slot of max_tokens = 10"));
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kInvalidArgument, "max_tokens"));
  EXPECT_EQ(WordOf(*slot, 1), kWordError);
  const StepIds good = StepIds::OfArray(step.global.data(), 10, 2, kFakeColumns);
  const auto refused = [&](auto change, const LookupOptions& options = {}) {
    StepIds ids = good;
    change(ids);
    return slot->SubmitIds(ids, options);
  };
  EXPECT_THAT(refused([](StepIds& ids) { ids.layers.pop_back(); }),
              StatusIs(Code::kInvalidArgument, "ids of 1 layers for 2 layers"));
  EXPECT_THAT(refused([](StepIds& ids) { ids.layers[1].wide = nullptr; }),
              StatusIs(Code::kInvalidArgument, "layer 14: its ids are null"));
  const std::vector<uint8_t> mask(9);
  EXPECT_THAT(refused([&](StepIds& ids) { ids.mask = mask; }),
              StatusIs(Code::kInvalidArgument, "a mask of 9 for 10 tokens"));
  std::vector<uint8_t> degraded(9);
  EXPECT_THAT(refused([](StepIds&) {}, {.degraded = degraded}),
              StatusIs(Code::kInvalidArgument, "9 degraded flags for 10 tokens"));
  EXPECT_THAT(
      slot->SubmitTokens(std::vector<StepChunk>{{.tokens = std::span(&kFakeTokens, 1)}}, {}),
      StatusIs(Code::kInvalidArgument, "no look-back state"));
}

TEST_F(SlotTest, IdsThatAreNoRowsAreNamed) {
  const auto slot = NewSlot({.max_tokens = 10});
  RandomStep step(*client_, 10, 8);
  const uint64_t prime = client_->geometry().layers()[1].columns[4].prime;
  step.per_column[3 * 2 * kFakeColumns + kFakeColumns + 4] = static_cast<int64_t>(prime);
  StepIds ids = StepIds::OfArray(step.per_column.data(), 10, 2, kFakeColumns);
  ids.per_column = true;
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  EXPECT_THAT(slot->Wait(1), IsOk());
  EXPECT_THAT(slot->Wait(14),
              StatusIs(Code::kOutOfRange, absl::StrCat("layer 14: id ", prime,
                                                       " of token 3, column 4 is not one of its")));
  EXPECT_EQ(WordOf(*slot, 1), kWordReady);
  EXPECT_EQ(WordOf(*slot, 14), kWordError);
  step.per_column[0] = -2;
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kOutOfRange, "layer 1: id -2 of token 0, column 0"));
  EXPECT_THAT(slot->Wait(14), StatusIs(Code::kOutOfRange, ""));  // The ids go before the slot.
}

TEST_F(SlotTest, OneStepAtATime) {
  const auto slot = NewSlot();
  cluster_.store(1).Close();
  const RandomStep step(*client_, 100, 9);
  const StepIds ids = StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns);
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  EXPECT_THAT(slot->SubmitIds(ids, {}), StatusIs(Code::kFailedPrecondition, "under way"));
  EXPECT_THAT(slot->Wait(1, absl::Now() + absl::Milliseconds(1)),
              StatusIs(Code::kDeadlineExceeded, "not there yet"));
  EXPECT_EQ(WordOf(*slot, 1), kWordPending);
  cluster_.store(1).Open();
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, {}, 1, step.of_layer[0]);
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  EXPECT_THAT(slot->WaitAll(), IsOk());
}

TEST_F(SlotTest, TheCallersMemory) {
  constexpr size_t kRows = 50 * kFakeColumns;
  std::vector<uint8_t> values(kRows * 256), scales(kRows * 8);
  SlotOptions options{.max_tokens = 50, .layers = {14}, .split_scales = true};
  options.memory = {{values, scales}};
  const auto slot = NewSlot(options);
  EXPECT_EQ(slot->rows(14).data(), values.data());
  const RandomStep step(*client_, 50, 10);
  StepIds ids{.tokens = 50, .layers = {}};
  ids.layers.emplace_back(step.of_layer[1].data(), kFakeColumns);
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ExpectRows(*slot, options, 14, step.of_layer[1]);
  EXPECT_THAT(Slot::HostBytes(*client_, options), IsOkAndHolds(4096u));
  const auto check = [&](auto change) {
    SlotOptions bad = options;
    change(bad);
    return Slot::Create(*client_, bad);
  };
  constexpr Code kBad = Code::kInvalidArgument;
  EXPECT_THAT(check([](SlotOptions& o) { o.memory[0].rows = {}; }), StatusIs(kBad, "null"));
  EXPECT_THAT(check([](SlotOptions& o) { o.memory[0].scales = o.memory[0].scales.first(7); }),
              StatusIs(kBad, "scales have 7, 2400 bytes are needed"));
  EXPECT_THAT(check([](SlotOptions& o) { o.layers = {}; }), StatusIs(kBad, "the slot has 2"));
  EXPECT_THAT(check([](SlotOptions& o) { o.max_tokens = 0; }), StatusIs(kBad, "`max_tokens`"));
  EXPECT_THAT(check([](SlotOptions& o) { o.layers = {14, 1}; }), StatusIs(kBad, "behind"));
  EXPECT_THAT(check([](SlotOptions& o) { o.layers = {2}; }), StatusIs(Code::kNotFound, "layer 2"));
  EXPECT_THAT(check([](SlotOptions& o) { o.columns = {3, 7}; }), StatusIs(kBad, "columns [3, 7)"));
  std::vector<uint64_t> words(2);
  EXPECT_THAT(check([&](SlotOptions& o) { o.words = words; }), StatusIs(kBad, "`words`"));
}

TEST_F(SlotTest, HostMemoryIsStated) {
  EXPECT_THAT(Slot::HostBytes(*client_, {.max_tokens = 512}),
              IsOkAndHolds(2 * 512 * kFakeColumns * kFakeRowBytes + 4096u));
}

TEST_F(SlotTest, GoesWithAStepUnderWay) {
  for (int i = 0; i < 20; ++i) {
    std::vector<uint8_t> rows[2];
    for (auto& layer : rows) layer.resize(200 * kFakeColumns * kFakeRowBytes);
    const RandomStep step(*client_, 200, 11);
    const auto slot = NewSlot({.max_tokens = 200, .memory = {{rows[0]}, {rows[1]}}});
    ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 200, 2, kFakeColumns), {}),
                IsOk());
  }  // Memory and ids go right after the slot: a late write is a use after free.
}

TEST_F(SlotTest, OutlivesItsClient) {
  const auto slot = NewSlot();
  const auto idle = NewSlot();
  const RandomStep step(*client_, 100, 12);
  const StepIds ids = StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns);
  LookBack state;
  const std::vector<uint32_t> tokens = {1, 2, 3};
  ASSERT_OK_AND_ASSIGN(Prefetch prefetch, Prefetch::Start(*client_, tokens, {}, state, {}));
  const LookBack behind = state;
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  client_.reset();
  EXPECT_THAT(slot->WaitAll(), StatusIs(Code::kCancelled, "closing"));
  EXPECT_EQ(WordOf(*slot, 14), kWordError);
  EXPECT_TRUE(AllZero(slot->rows(14)));
  EXPECT_THAT(slot->SubmitIds(ids, {}), StatusIs(Code::kCancelled, "closed"));
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kCancelled, "closed"));
  const std::vector<StepChunk> chunks = {prefetch.Range(0, 3), {.tokens = tokens, .state = &state}};
  EXPECT_THAT(idle->SubmitTokens(chunks, {}), StatusIs(Code::kCancelled, "closed"));
  EXPECT_EQ(state, behind);
  EXPECT_EQ(WordOf(*idle, 1), kWordError);
  slot->Cancel();
}

}  // namespace
}  // namespace engram

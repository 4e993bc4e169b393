// A slot of the real client on real servers, waited for by streams of the stand-in.
#include <gtest/gtest.h>

#include "tests/cluster/slot_fixture.h"
#include "tests/cuda/stream_fixture.h"

namespace engram {
namespace {

class SlotStreamTest : public SlotTest {
 protected:
  SlotStreamTest() { fake_cuda::Reset(); }
  void TearDown() override {
    EXPECT_EQ(fake_cuda::WhatIsLeft().registered_bytes, 0u);
    EXPECT_EQ(fake_cuda::Faults(), 0);
  }

  static std::unique_ptr<StreamWords> WordsOf(const Slot& slot) {
    const auto layers = StreamLayersOf(slot, {1, 14});
    EXPECT_THAT(layers, IsOk());
    auto words = StreamWords::Create({.layers = *layers, .driver = ENGRAM_FAKE_CUDA_PATH});
    EXPECT_THAT(words, IsOk());
    return words.ok() ? *std::move(words) : nullptr;
  }
};

// The rows of both layers on the device, as kernels find them.
struct Device {
  explicit Device(const Slot& slot) {
    for (const size_t i : {0, 1}) {
      rows[i].assign(slot.rows(i == 0 ? 1 : 14).size(), 0xa5);
      seen[i].assign(rows[i].size(), 0);
    }
  }
  // Everything of a step that goes to the stream.
  void Launch(StreamWords& words, TestStream& stream, size_t tokens) {
    const size_t bytes = tokens * kFakeColumns * kFakeRowBytes;
    ASSERT_THAT(words.StartCopy(1, {OnDevice(rows[0]), bytes}, stream), IsOk());
    ASSERT_THAT(words.StartCopy(14, {OnDevice(rows[1]), bytes}, stream), IsOk());
    ASSERT_THAT(words.WaitForCopy(1, stream), IsOk());
    stream.Launch([this] { seen[0] = rows[0]; });
    ASSERT_THAT(words.WaitForCopy(14, stream), IsOk());
    stream.Launch([this] { seen[1] = rows[1]; });
  }
  // After the stream has been there. A slot's rows stay until its next submit.
  void ExpectSeen(const Slot& slot, size_t tokens) {
    const auto bytes = static_cast<ptrdiff_t>(tokens * kFakeColumns * kFakeRowBytes);
    for (const size_t i : {0, 1}) {
      EXPECT_TRUE(
          std::equal(seen[i].begin(), seen[i].begin() + bytes, slot.rows(i == 0 ? 1 : 14).begin()));
    }
  }

  std::vector<uint8_t> rows[2], seen[2];
};

TEST_F(SlotStreamTest, StepsThatTheSubmitResets) {
  const auto slot = NewSlot({.max_tokens = 100});
  const auto words = WordsOf(*slot);
  ASSERT_NE(words, nullptr);
  TestStream stream;
  Device device(*slot);
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const auto tokens = static_cast<uint32_t>(1 + seed * 37 % 100);
    const RandomStep step(*client_, tokens, seed);
    ASSERT_THAT(words->WaitUntilFree(), IsOk());
    ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), tokens, 2, kFakeColumns), {}),
                IsOk());
    device.Launch(*words, stream, tokens);
    ASSERT_THAT(words->MarkFree(stream), IsOk());
    ASSERT_THAT(words->WaitUntilFree(), IsOk());
    ASSERT_THAT(slot->WaitAll(), IsOk());
    ExpectRows(*slot, {}, 1, step.of_layer[0]);
    ExpectRows(*slot, {}, 14, step.of_layer[1]);
    device.ExpectSeen(*slot, tokens);
  }
}

// As graphs are launched before the ids are known, over the caller's memory and words.
TEST_F(SlotStreamTest, StepsThatAreLaunchedBeforeTheirSubmit) {
  const size_t bytes = 100 * kFakeColumns * kFakeRowBytes;
  std::vector<uint8_t> memory[2] = {std::vector<uint8_t>(bytes), std::vector<uint8_t>(bytes)};
  alignas(8) uint64_t given[2] = {77, 77};
  const auto slot = NewSlot({.max_tokens = 100,
                             .memory = {{.rows = memory[0]}, {.rows = memory[1]}},
                             .words = given,
                             .reset_words = false});
  const auto words = WordsOf(*slot);
  ASSERT_NE(words, nullptr);
  TestStream stream;
  Device device(*slot);
  for (uint64_t seed = 100; seed < 130; ++seed) {
    const RandomStep step(*client_, 100, seed);
    ASSERT_THAT(words->WaitUntilFree(), IsOk());
    device.Launch(*words, stream, 100);
    ASSERT_THAT(words->ResetWords(stream), IsOk());
    ASSERT_THAT(words->MarkFree(stream), IsOk());
    ASSERT_THAT(slot->SubmitIds(StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns), {}),
                IsOk());
    ASSERT_THAT(words->WaitUntilFree(), IsOk());
    ASSERT_THAT(slot->WaitAll(), IsOk());
    EXPECT_EQ(WordOf(*slot, 1), kWordPending);  // by the stream
    ExpectRows(*slot, {}, 1, step.of_layer[0]);
    ExpectRows(*slot, {}, 14, step.of_layer[1]);
    device.ExpectSeen(*slot, 100);
  }
}

TEST_F(SlotStreamTest, AStepThatFailsReleasesTheStreamWithZeros) {
  const auto slot = NewSlot({.max_tokens = 100, .reset_words = false});
  const auto words = WordsOf(*slot);
  ASSERT_NE(words, nullptr);
  TestStream stream;
  Device device(*slot);
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Close();
  const RandomStep step(*client_, 100, 7);
  const StepIds ids = StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns);
  device.Launch(*words, stream, 100);
  ASSERT_THAT(words->ResetWords(stream), IsOk());
  ASSERT_THAT(words->MarkFree(stream), IsOk());
  ASSERT_THAT(slot->SubmitIds(ids, {.timeout = absl::Milliseconds(20)}), IsOk());
  ASSERT_THAT(words->WaitUntilFree(), IsOk());
  EXPECT_THAT(slot->Wait(1), StatusIs(Code::kDeadlineExceeded, "layer 1"));
  EXPECT_THAT(slot->Wait(14), StatusIs(Code::kDeadlineExceeded, "layer 14"));
  EXPECT_EQ(device.seen[0], std::vector<uint8_t>(device.seen[0].size(), 0));
  EXPECT_EQ(device.seen[1], std::vector<uint8_t>(device.seen[1].size(), 0));
  for (size_t i = 0; i < 3; ++i) cluster_.store(i).Open();
  // A refused submit releases a stream that waits already, too.
  ASSERT_THAT(words->Wait(1, stream), IsOk());
  EXPECT_THAT(slot->SubmitIds({.tokens = 101, .layers = ids.layers}, {}),
              StatusIs(Code::kInvalidArgument, "101 tokens"));
  stream.Synchronize();
}

TEST_F(SlotStreamTest, LayersThatTheSlotHasNot) {
  const auto slot = NewSlot({.max_tokens = 10, .layers = {14}});
  EXPECT_THAT(StreamLayersOf(*slot, {14, 1}), StatusIs(Code::kNotFound, "the slot has no layer 1"));
}

}  // namespace
}  // namespace engram

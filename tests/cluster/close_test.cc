// Clients that are closed while others submit.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "client/prefetch.h"
#include "tests/cluster/slot_fixture.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

// 70 x 6 rows x 264 bytes x 2 layers: as much as is copied at once.
constexpr uint32_t kTokens = 70;

// As a GPU does: sees every value that a word takes, if it is there for long enough.
class WordWatcher {
 public:
  explicit WordWatcher(const Slot& slot)
      : words_{slot.word(1), slot.word(14)}, thread_([this] { Watch(); }) {}
  ~WordWatcher() { Stop(); }
  // Whether some word was "ready" and something else behind that.
  bool SawReadyTakenBack() {
    Stop();
    return taken_back_;
  }

 private:
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void Watch() {
    bool ready[2] = {false, false}, stop = false;
    do {
      stop = stop_;  // The last look comes behind whatever was written before Stop.
      for (size_t i = 0; i < 2; ++i) {
        const uint64_t word = std::atomic_ref<uint64_t>(*words_[i]).load();
        if (ready[i] && word != kWordReady) taken_back_ = true;
        ready[i] = word == kWordReady;
      }
    } while (!stop);
  }

  uint64_t* const words_[2];
  std::atomic<bool> stop_ = false;
  bool taken_back_ = false;
  std::thread thread_;
};

bool IsZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// A step whose rows are all there already is finished by whoever submits it. A client that closes
// meanwhile may refuse it or not; "ready" is never taken back.
TEST_F(SlotTest, AWordThatSaidReadyStandsWhenTheClientCloses) {
  constexpr int kRounds = 150;
  std::mt19937_64 random(31);
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect());
    const std::vector<uint32_t> tokens(kTokens, 7);
    LookBack state;
    ASSERT_OK_AND_ASSIGN(const Prefetch prefetch, Prefetch::Start(*client_, tokens, {}, state, {}));
    while (!prefetch.InPlace()) absl::SleepFor(absl::Microseconds(50));
    const auto slot = NewSlot();
    const std::vector<StepChunk> chunks = {prefetch.Range(0, kTokens)};
    const std::vector<int64_t> rows = HashWhole(*client_, 14, tokens);
    WordWatcher watcher(*slot);
    std::atomic<bool> go = false;
    std::thread closer([&, delay = random() % 30'000] {
      while (!go) {
      }
      for (uint64_t i = 0; i < delay; ++i) static_cast<void>(go.load());
      client_.reset();
    });
    go = true;
    const absl::Status submitted = slot->SubmitTokens(chunks, {});
    const absl::Status waited = slot->WaitAll();
    closer.join();
    ASSERT_FALSE(watcher.SawReadyTakenBack()) << "round " << round << ": " << submitted;
    if (submitted.ok()) {
      ++accepted;
      ASSERT_THAT(waited, IsOk());
      ASSERT_EQ(WordOf(*slot, 1), kWordReady);
      ASSERT_EQ(WordOf(*slot, 14), kWordReady);
      ExpectRows(*slot, {}, 14, rows);
    } else {
      ASSERT_THAT(submitted, StatusIs(Code::kCancelled, "closed"));
      ASSERT_EQ(waited, submitted);
      ASSERT_EQ(WordOf(*slot, 1), kWordError);
      ASSERT_EQ(WordOf(*slot, 14), kWordError);
      ASSERT_TRUE(IsZero(slot->rows(1)));
    }
  }
  RecordProperty("accepted", accepted);
}

// The rows of the step before are not left under a word that says "error".
TEST_F(SlotTest, ARefusedSubmitLeavesZeros) {
  const SlotOptions options{.max_tokens = 100, .order = RowOrder::kHeadMajor, .split_scales = true};
  const auto slot = NewSlot(options);
  const RandomStep step(*client_, 100, 33);
  StepIds ids = StepIds::OfArray(step.global.data(), 100, 2, kFakeColumns);
  ASSERT_THAT(slot->SubmitIds(ids, {}), IsOk());
  ASSERT_THAT(slot->WaitAll(), IsOk());
  ids.layers.pop_back();
  ASSERT_THAT(slot->SubmitIds(ids, {}), StatusIs(Code::kInvalidArgument, "ids of 1 layers"));
  for (const uint32_t layer : {1u, 14u}) {
    EXPECT_EQ(WordOf(*slot, layer), kWordError);
    EXPECT_TRUE(IsZero(slot->rows(layer)));
    EXPECT_TRUE(IsZero(slot->scales(layer)));
  }
}

}  // namespace
}  // namespace engram

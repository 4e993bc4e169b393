// What the tests of guesses share: a cluster, a slot, and sequences whose every row is compared.
#ifndef ENGRAM_TESTS_CLUSTER_GUESSES_FIXTURE_H_
#define ENGRAM_TESTS_CLUSTER_GUESSES_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "client/guesses.h"
#include "client/slot.h"
#include "tests/cluster/fake_cluster.h"
#include "tests/cluster/slot_fixture.h"

namespace engram {

inline constexpr uint64_t kGuessBytes = uint64_t{2} * kFakeColumns * kFakeRowBytes;

class GuessesTest : public testing::Test {
 protected:
  struct Text {
    std::vector<uint32_t> tokens;
    std::vector<uint8_t> dead;
  };

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(client_, cluster_.Connect());
    // Whatever may be guessed is, and waited for.
    options_.least_probability = 0;
    options_.least_hits_per_mb = 0;
    options_.timeout = absl::Seconds(20);
  }

  // Sequences without text.
  void Start(size_t sequences, SlotOptions slot = {.max_tokens = 8}) {
    sequences_.clear();
    texts_.assign(sequences, {});
    slot_options_ = slot;
    ASSERT_OK_AND_ASSIGN(guesses_, Guesses::Create(*client_, options_));
    ASSERT_OK_AND_ASSIGN(slot_, Slot::Create(*client_, slot));
    for (size_t i = 0; i < sequences; ++i) {
      sequences_.push_back(std::make_unique<GuessedSequence>(guesses_));
    }
  }

  // A step of one token a sequence, up to its submit.
  void Submit(const std::vector<uint32_t>& tokens, bool dead = false) {
    std::vector<StepChunk> chunks;
    for (size_t i = 0; i < tokens.size(); ++i) {
      chunks.push_back(sequences_[i]->Next(tokens[i], dead));
      texts_[i].tokens.push_back(tokens[i]);
      texts_[i].dead.push_back(dead ? 1 : 0);
    }
    ASSERT_THAT(slot_->SubmitTokens(chunks, {}), IsOk());
  }

  // The step's rows are those of the last token of each sequence.
  void ExpectStep() {
    ASSERT_THAT(slot_->WaitAll(), IsOk());
    for (const uint32_t layer : {1u, 14u}) {
      if (slot_->rows(layer).empty()) continue;
      std::vector<int64_t> ids;
      for (const Text& text : texts_) {
        const std::vector<int64_t> last = LastIds(layer, text);
        ids.insert(ids.end(), last.begin(), last.end());
      }
      ExpectRows(*slot_, slot_options_, layer, ids);
    }
  }

  // A step as long as a model's: what was guessed is there at its end, unless it is `short_`.
  void Step(const std::vector<uint32_t>& tokens, bool dead = false, bool short_ = false) {
    ASSERT_NO_FATAL_FAILURE(Submit(tokens, dead));
    const uint64_t bytes = client_->stats().guess_bytes;
    ASSERT_THAT(guesses_->Ahead(now_), IsOk());
    ASSERT_NO_FATAL_FAILURE(ExpectStep());
    const bool guessed = client_->stats().guess_bytes > bytes;
    ASSERT_TRUE(short_ || !guessed || WaitUntilReady());
    now_ += absl::Milliseconds(5);
  }

  // Steps of the one sequence's text, which repeats three tokens; the guess for the next is there.
  void Repeat(size_t steps) {
    for (size_t i = 0; i < steps; ++i) ASSERT_NO_FATAL_FAILURE(Step({Repeated()}));
    ASSERT_TRUE(sequences_[0]->ready());
  }
  // The first sequence's next token.
  uint32_t Repeated() const { return static_cast<uint32_t>(texts_[0].tokens.size() % 3); }

  bool WaitUntilReady() {
    const auto ready = [this] {  // They come together.
      return std::any_of(sequences_.begin(), sequences_.end(),
                         [](const auto& sequence) { return sequence->ready(); });
    };
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (!ready() && absl::Now() < limit) {
    }
    return ready();
  }

  // Requests that the client has sent, all that was submitted before included.
  uint64_t Sent() {
    // Refused on the I/O thread, which has then come past the rest.
    const std::vector<int64_t> no_row = {-2};
    std::vector<uint8_t> out(kFakeRowBytes);
    auto refused = client_->SubmitRows({{1, no_row, out}}, {});
    EXPECT_THAT(refused, IsOk());
    EXPECT_THAT(refused->WaitAll(), StatusIs(absl::StatusCode::kOutOfRange, ""));
    return client_->stats().requests;
  }

  void CloseStores() {
    for (size_t i = 0; i < kServers; ++i) cluster_.store(i).Close();
  }
  void OpenStores() {
    for (size_t i = 0; i < kServers; ++i) cluster_.store(i).Open();
  }
  void FailStores(const absl::Status& status) {
    for (size_t i = 0; i < kServers; ++i) cluster_.store(i).FailWith(status);
  }

  static constexpr size_t kServers = 3;
  FakeCluster cluster_{kServers};
  GuessOptions options_;
  SlotOptions slot_options_;
  std::unique_ptr<Client> client_;
  std::shared_ptr<Guesses> guesses_;
  std::unique_ptr<Slot> slot_;
  std::vector<std::unique_ptr<GuessedSequence>> sequences_;
  std::vector<Text> texts_;
  absl::Time now_ = absl::UnixEpoch();

 private:
  // Row ids [kFakeColumns] of a text's last token.
  std::vector<int64_t> LastIds(uint32_t layer, const Text& text) const {
    const RowHasher hasher =
        *RowHasher::Create(client_->geometry(), *client_->token_map()->Compress(2));
    std::vector<uint32_t> compressed;
    for (const uint32_t token : text.tokens) compressed.push_back(token % kFakeCompressed);
    std::vector<int64_t> ids(text.tokens.size() * kFakeColumns);
    hasher.HashChunk(*client_->geometry().LayerIndex(layer), compressed, text.dead, LookBack(),
                     ids);
    std::vector<int64_t> last(ids.end() - kFakeColumns, ids.end());
    if (text.dead.back() != 0) std::fill(last.begin(), last.end(), kNoRow);
    return last;
  }
};

}  // namespace engram

#endif  // ENGRAM_TESTS_CLUSTER_GUESSES_FIXTURE_H_

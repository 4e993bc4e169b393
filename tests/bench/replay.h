// Sequences of real text, replayed as decode steps.
#ifndef ENGRAM_TESTS_BENCH_REPLAY_H_
#define ENGRAM_TESTS_BENCH_REPLAY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/guesses.h"
#include "client/slot.h"
#include "proto/row_ids.h"
#include "proto/token_trace.h"
#include "storage/table.h"
#include "tests/bench/overlap/timeline.h"

namespace engram::bench {

// A place in a text: what stands before it is the prompt, `steps` tokens from it on are decoded.
struct Passage {
  std::span<const uint32_t> text;  // raw token ids
  size_t begin = 0;
};

// Passages from all places of a text behind its first tokens, each as likely as any other. A fixed
// seed.
class Passages {
 public:
  static constexpr size_t kLeastPrompt = 256;

  // Borrows the text. InvalidArgument: no sequence has kLeastPrompt + `steps` tokens.
  static absl::StatusOr<Passages> Create(const TokenTrace& text, size_t steps);
  Passage Draw();

 private:
  const TokenTrace* text_ = nullptr;
  std::vector<uint64_t> places_;  // of the sequences up to each, summed up
  std::vector<size_t> sequences_;
  size_t steps_ = 0;
  std::mt19937_64 random_;
};

// What a step took.
struct ReplayedStep {
  // From its tokens known to its last row in place, as the thread saw it that put it there.
  Clock::duration wait{};
  Clock::duration asking{};  // the caller's thread, until the step and its guesses were submitted
};

// Decodes passages side by side, one token of each a step, every row compared with the table's.
class Replay {
 public:
  // Borrows all; `guesses` may be null: then tokens are fetched when they are known.
  static absl::StatusOr<std::unique_ptr<Replay>> Create(const Client& client, const Table& local,
                                                        std::shared_ptr<Guesses> guesses,
                                                        size_t sequences);

  // The first step, for which nothing was guessed, is not among those returned. Internal: a wrong
  // row.
  absl::StatusOr<std::vector<ReplayedStep>> Run(std::span<const Passage> passages, size_t steps,
                                                Clock::duration step);

 private:
  struct Sequence {
    LookBack state;                            // without guesses
    std::unique_ptr<GuessedSequence> guessed;  // with them
    LookBack checked;                          // of the rows that must come
  };

  Replay(const Table& local, std::shared_ptr<Guesses> guesses, RowHasher hasher,
         std::unique_ptr<Slot> slot);
  absl::Status Begin(std::span<const Passage> passages);
  absl::StatusOr<ReplayedStep> Step(std::span<const Passage> passages, size_t step);
  bool AllDone() const;
  absl::Status Check(std::span<const Passage> passages, size_t step);

  const Table& local_;
  const std::shared_ptr<Guesses> guesses_;
  const RowHasher hasher_;
  const std::unique_ptr<Slot> slot_;
  std::vector<Sequence> sequences_;
  std::vector<StepChunk> chunks_;
  std::vector<int64_t> ids_;    // scratch
  std::vector<uint8_t> right_;  // scratch
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_REPLAY_H_

// Guesses: where no draft model runs, the rows of what may be the next token are fetched a whole
// step early. A wrong guess costs bytes, never a wrong row.
//
//   ASSIGN_OR_RETURN(const auto guesses, Guesses::Create(*client, {.successors = "text.succ"}));
//   each sequence   GuessedSequence sequence(guesses);
//                   sequence.Observe(prompt);
//                   ... fetch the prompt's rows with sequence.state() as its look-back state
//   each step       for (...) chunks.push_back(sequence.Next(token));
//                   RETURN_IF_ERROR(slot->SubmitTokens(chunks, {}));
//                   RETURN_IF_ERROR(guesses->Ahead());
//                   ... RETURN_IF_ERROR(slot->Wait(1));
//
// DESIGN: client/README.md, "Guesses".
#ifndef ENGRAM_CLIENT_GUESSES_H_
#define ENGRAM_CLIENT_GUESSES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/guess_controller.h"
#include "client/guesser.h"
#include "client/prefetch.h"
#include "client/sequence_text.h"
#include "client/step.h"
#include "proto/successors.h"

namespace engram {

struct GuessOptions {
  // File of `engramctl successors`; empty: a sequence's own text is all that guesses come from.
  std::string successors = {};
  // Guesses of one next token, at most Guesser::kMost. Each costs a token's rows: 12,672 bytes of
  // DeepSeek-V4.1.
  uint32_t candidates = 8;
  // Guesses that are less likely are not fetched.
  double least_probability = 0.015;
  // See GuessBounds. A token is spared its fetch when its rows are there and those of all others
  // that Ahead takes with it: a step waits for its last row.
  uint64_t bytes_per_step = 2 << 20;
  uint64_t bytes_per_second = 256 << 20;
  double least_hits_per_mb = 3;
  // Of a sequence's own text, the newest: 20 bytes each.
  uint32_t text_tokens = 4096;
  // How late guesses may come: a step that takes one which has not come by then fetches its rows
  // itself.
  absl::Duration timeout = absl::Milliseconds(20);
  // As the slots have that take the guesses.
  std::vector<uint32_t> layers = {};
  ColumnRange columns = {};

  // InvalidArgument naming the option.
  absl::Status Validate() const;
};

class GuessedSequence;

// What the sequences of one engine share: counts, bounds, and one lookup a step for the guesses of
// all of them. It and its sequences are for one thread at a time; sequences may outlive it and the
// client.
class Guesses {
 public:
  // InvalidArgument: the options, or what is no such file (named). FailedPrecondition: no token
  // map, or the file is of another one; in a child made by fork. NotFound: a layer without a table.
  // DataLoss: the file is damaged. Else the system's code of reading it.
  static absl::StatusOr<std::shared_ptr<Guesses>> Create(const Client& client,
                                                         GuessOptions options);

  // To be called when the step was submitted whose chunks Next has given since the last call: what
  // may follow them is guessed, and fetched after the step's own rows. Returns in microseconds.
  // No guess is fetched while the bounds, or ClientOptions::max_prefetch_bytes, leave no bytes.
  //   Cancelled           the client is closed
  //   FailedPrecondition  in a child made by fork
  // Sequences go on all the same, without guesses.
  absl::Status Ahead(absl::Time now = absl::Now());

  // False: guessing has stopped for the time being (GuessController).
  bool on() const { return controller_.on(); }

 private:
  friend class GuessedSequence;
  Guesses(std::shared_ptr<ClientCore> core, GuessOptions options,
          std::optional<Successors> successors);

  struct Choice {
    GuessedSequence* sequence;
    size_t guess;
  };

  void Settle(absl::Time now);
  void Choose(uint64_t allowance);
  absl::Status Fetch();

  const std::shared_ptr<ClientCore> core_;
  const GuessOptions options_;
  const uint64_t token_bytes_;  // that one guess costs
  const std::optional<Successors> successors_;
  Guesser guesser_;
  GuessController controller_;
  std::vector<GuessedSequence*> stepping_;  // Next was called, Ahead was not
  std::vector<Choice> chosen_;              // scratch
  std::vector<TokenRun> branches_;          // scratch
};

// One sequence, whose next tokens are guessed. Stays where it is. May be dropped at any time; a
// step that waits for a guess of it then fetches the rows itself.
class GuessedSequence {
 public:
  explicit GuessedSequence(std::shared_ptr<Guesses> guesses);
  GuessedSequence(const GuessedSequence&) = delete;
  ~GuessedSequence();

  // The sequence's look-back state, for whatever fetches tokens that are not guessed: the prompt's,
  // drafts that were accepted. Guesses that were made for another state are not taken.
  LookBack& state() { return state_; }

  // Tells of tokens that were fetched so: guesses come from them, too. Token ids beyond the token
  // map, and `dead` positions, are gaps.
  void Observe(std::span<const uint32_t> tokens, std::span<const uint8_t> dead = {});

  // The sequence's next token as a chunk for Slot::SubmitTokens: the rows that were guessed, also
  // if they are still on their way, or the token by itself. Borrows this object until the submit
  // has returned. When the submit was refused, call it again. What is wrong with a token id
  // SubmitTokens says. `dead`: the position is not hashed and gets zeros.
  StepChunk Next(uint32_t token, bool dead = false);

  // True: rows were fetched for guesses of the next token, and are all in place.
  bool ready() const { return fetched_ != nullptr && fetched_->InPlace(); }

 private:
  friend class Guesses;

  // What was fetched of one Ahead; shared by its sequences, dropped with the last.
  using Fetched = std::shared_ptr<const Prefetch>;

  void DropGuesses();

  const std::shared_ptr<Guesses> guesses_;
  LookBack state_;
  SequenceText text_;

  // Of the next token.
  std::vector<Guess> proposed_;
  size_t counted_ = 0;    // the first of them: fetched, or would be if guessing had not stopped
  LookBack proposed_at_;  // the state behind which they were proposed
  Fetched fetched_;       // null: none
  size_t first_ = 0;      // token of `fetched_` that is the first guess

  // Of the step between Next and Ahead.
  bool stepping_ = false;
  uint32_t token_ = 0;
  uint32_t id_ = SequenceText::kNoToken;  // its compressed id; none where it is dead
  bool known_ = false;                    // among the first `counted_` of the proposed
  bool taken_ = false;                    // its rows are those of `fetched_`
  bool there_ = false;                    // and had come when it was taken

  Fetched held_;  // that the last step took: it may still be under way
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_GUESSES_H_

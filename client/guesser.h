// What may come next: a sequence's own text first, then counts of a corpus.
#ifndef ENGRAM_CLIENT_GUESSER_H_
#define ENGRAM_CLIENT_GUESSER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "client/sequence_text.h"
#include "proto/successors.h"

namespace engram {

struct Guess {
  uint32_t id = 0;  // compressed
  float probability = 0;
  uint16_t evidence = 0;  // the guesser's own
};

// How likely a guess is depends on what speaks for it: how much of the sequence's end has stood
// there before, how often, what share of the corpus. The guesser counts how often each kind of
// evidence was right, so that probabilities are those of the text at hand. Deterministic; not
// thread-safe.
class Guesser {
 public:
  static constexpr size_t kMost = 16;

  // `table`, borrowed, may be null: then a sequence's own text is all there is.
  explicit Guesser(const Successors* table);

  // At most kMost different guesses, the likeliest first.
  void Propose(const SequenceText& text, std::vector<Guess>& guesses);
  // `id` has come where all of `guesses` were proposed.
  void Learn(std::span<const Guess> guesses, uint32_t id);

 private:
  struct Rate {
    float hits = 0;
    float tries = 0;
  };
  // What came after the sequence's end where it stood before.
  struct Own {
    uint32_t id = 0;
    uint32_t length = 0;  // tokens before it that are the same, the most of all times
    uint32_t times = 0;
  };

  void FindOwn(const SequenceText& text);
  void AddCounted(const Successors::Found& found, uint32_t order, std::vector<Guess>& guesses);

  const Successors* const table_;
  std::vector<Rate> rates_;  // by evidence
  std::vector<Own> own_;     // scratch, in the order in which they were met
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_GUESSER_H_

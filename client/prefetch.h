// Rows fetched ahead: for tokens that are known long before their step, or may never have one.
//
//   at admission   ASSIGN_OR_RETURN(Prefetch prompt,
//                                   Prefetch::Start(*client, tokens, {}, state, {}));
//   at each chunk  slot->SubmitTokens({{prompt.Range(first, count), ...}}, {});
//
// The engine decides the chunks' borders when it comes to them. Drafts of speculative decoding are
// prefetches too: one a continuation, each with a copy of the sequence's state; those that are not
// taken are dropped, and StateAt says where the sequence stands behind the accepted tokens. Where
// no drafts are, next tokens can be guessed (client/guesses.h).
#ifndef ENGRAM_CLIENT_PREFETCH_H_
#define ENGRAM_CLIENT_PREFETCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/row_source.h"
#include "client/step.h"

namespace engram {

struct PrefetchOptions {
  std::vector<uint32_t> layers = {};  // ascending; empty: all
  ColumnRange columns = {};           // {0, 0}: all
  LookupPriority priority = LookupPriority::kPrefill;
  // Counted from Start; what has not come by then, a step that takes it fetches itself.
  absl::Duration timeout = absl::Seconds(60);
};

// Movable. One thread at a time, but for Range, which only reads.
class Prefetch {
 public:
  // Starts to fetch the rows of a chunk of a sequence into memory that the prefetch owns, and moves
  // `state` past the chunk. Borrows nothing. Returns in microseconds.
  // As Client::SubmitTokens; ResourceExhausted: beyond ClientOptions::max_prefetch_bytes.
  static absl::StatusOr<Prefetch> Start(Client& client, std::span<const uint32_t> tokens,
                                        std::span<const uint8_t> dead, LookBack& state,
                                        const PrefetchOptions& options);

  Prefetch() = default;  // empty
  Prefetch(Prefetch&&) noexcept = default;
  Prefetch& operator=(Prefetch&&) noexcept;
  // Does not wait: asks the I/O thread to cancel what is outstanding. The memory goes when nothing
  // writes or reads it any more. A step that waits for its rows fetches them itself.
  ~Prefetch();

  size_t tokens() const;
  // Memory of its rows, counted in max_prefetch_bytes: layers x tokens x columns x row_bytes
  // (12,672 bytes a token of DeepSeek-V4.1). Token ids take 5 bytes a token beside it.
  uint64_t bytes() const;

  // A step's chunk of tokens [first, first + count). The slot must be of the same client, its
  // layers and columns among the prefetch's. Where rows have not come yet, that layer of the step
  // begins when they have; where they never will, it fetches them. Any number of steps may take the
  // same.
  StepChunk Range(size_t first, size_t count) const;

  // The sequence's look-back state behind the first `tokens` tokens; at most tokens().
  LookBack StateAt(size_t tokens) const;

  // True: every layer is in place, a step that takes it waits for nothing.
  bool InPlace() const;

  // When every layer is in place or has failed: the first failure. No need to call it before a step
  // takes the rows. FailedPrecondition: empty. DeadlineExceeded: also at `deadline`.
  absl::Status Wait(absl::Time deadline = absl::InfiniteFuture());

 private:
  friend class ClientCore;
  friend class Guesses;

  // Continuations of several sequences by one lookup: branch b's tokens follow those of the
  // branches before it. A chunk of it lies within one branch. As Start; not for StateAt.
  static absl::StatusOr<Prefetch> StartBranches(std::shared_ptr<ClientCore> core,
                                                std::span<const TokenRun> branches,
                                                const PrefetchOptions& options);
  // A lookup that owns the memory of its rows.
  static absl::StatusOr<std::shared_ptr<Lookup>> NewLookup(ClientCore& core, size_t tokens,
                                                           const PrefetchOptions& options);

  std::shared_ptr<ClientCore> core_;
  std::shared_ptr<Lookup> lookup_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_PREFETCH_H_

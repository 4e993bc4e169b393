// The part of `engram-bench trace` that guesses: how long a decode step waits for rows whose tokens
// nobody knew before, with guesses fetched a step early and without.
#ifndef ENGRAM_TESTS_BENCH_GUESSES_H_
#define ENGRAM_TESTS_BENCH_GUESSES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/guesses.h"
#include "nlohmann/json.hpp"
#include "proto/token_trace.h"
#include "storage/table.h"

namespace engram::bench {

struct GuessBenchOptions {
  std::vector<uint32_t> sequences = {1, 4, 16};  // of a step; one run each
  uint32_t steps = 2000;                         // with guesses, and as many without; 0: no run
  absl::Duration step = absl::Milliseconds(5);
  std::string link = "delay=200us";               // empty: loopback
  absl::Duration spin = absl::Milliseconds(100);  // how long client and server poll
  uint64_t successor_bytes = 8'000'000;
  GuessOptions guesses = {};
};

// Counts `counted`, replays parts of `replayed`; both are raw token ids. `local` is the table of
// `checkpoint`. The figures as tests/bench/README.md defines them; where the link cannot be made,
// an object with "skipped": why. Internal: a wrong row.
absl::StatusOr<nlohmann::json> RunGuessBench(const GuessBenchOptions& options,
                                             const std::string& checkpoint, const Table& local,
                                             const TokenTrace& counted, const TokenTrace& replayed);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_GUESSES_H_

// `engram-bench trace`: chunks of real text, whose n-grams repeat, with and without what spares
// fetches.
#ifndef ENGRAM_TESTS_BENCH_TRACE_H_
#define ENGRAM_TESTS_BENCH_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "proto/token_trace.h"
#include "storage/table.h"
#include "tests/bench/guesses.h"
#include "tests/bench/overlap/step_ids.h"

namespace engram::bench {

struct TraceBenchOptions {
  std::string trace = "deploy/data/kjv.tok";
  std::string tokenizer = "build/tokenizer/tokenizer.json";  // of the trace's token ids
  std::vector<uint32_t> cache_mb = {512};                    // two variants each
  std::vector<std::string> only;  // names of variants beside "off"; empty: all
  uint32_t chunk = 8192;          // tokens a lookup
  uint64_t rows = 4'000'000;      // of each of the table's two layers
  uint32_t rounds = 2;
  absl::Duration time = absl::Milliseconds(500);  // of a run of the bare pair
  absl::Duration spin = absl::Milliseconds(1);
  GuessBenchOptions guesses;
  bool only_guesses = false;
};

// The figures as tests/bench/README.md defines them. Internal: a wrong row.
absl::StatusOr<nlohmann::json> RunTraceBench(const TraceBenchOptions& options);

// Cuts a text in two by its tokens: `trace` keeps the first half, the second is returned.
TokenTrace TakeSecondHalf(TokenTrace& trace);

// Consecutive chunks of a text, hashed for a table that has a token map. As StepPool::Hash.
absl::StatusOr<StepPool> TextChunks(const Table& table, const TokenTrace& text, uint32_t chunk);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_TRACE_H_

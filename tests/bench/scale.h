// `engram-bench scale`: does a lookup take longer in a larger table, and if so, why.
#ifndef ENGRAM_TESTS_BENCH_SCALE_H_
#define ENGRAM_TESTS_BENCH_SCALE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct ScaleOptions {
  std::vector<uint64_t> rows = {100'000, 1'000'000, 10'000'000, 100'000'000};  // of the tables
  uint32_t batch = 1024;                                                       // rows a lookup
  uint32_t rounds = 3;  // runs of each; figures are medians
  absl::Duration time = absl::Seconds(1);
  absl::Duration spin = absl::Milliseconds(1);  // both sides
};

// The figures as tests/bench/README.md defines them. ResourceExhausted: a table does not fit into
// the memory that the machine has left. DataLoss: a row that came is another.
absl::StatusOr<nlohmann::json> RunScale(const ScaleOptions& options);

// What RunScale starts for each table, so that its memory is a process's own: makes it, measures
// what needs no server (options.rows[0] rows), prints that as a line, serves it, prints the address
// as a line; ends by SIGTERM.
absl::Status RunScaleServer(const ScaleOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_SCALE_H_

// What becomes of a server that several share: small lookups beside large ones, and one server on
// several cores.
#ifndef ENGRAM_TESTS_BENCH_SHARING_H_
#define ENGRAM_TESTS_BENCH_SHARING_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct SharingOptions {
  uint32_t rounds = 5;
  absl::Duration time = absl::Seconds(1);  // of one run
  absl::Duration spin = absl::Milliseconds(1);
};

// `engram-bench fairness`: lookups of 16 rows, one at a time, alone and while the same client
// process keeps two prefill lookups of 65,536 rows in flight, in turns. The figures as
// tests/bench/README.md defines them.
absl::StatusOr<nlohmann::json> RunFairness(const SharingOptions& options);

// `engram-bench cores`: rows per CPU second of a server with one thread and with two, in turns; no
// side polls.
absl::StatusOr<nlohmann::json> RunCores(const SharingOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_SHARING_H_

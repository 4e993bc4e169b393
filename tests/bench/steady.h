// `engram-bench steady`: lookups at times of their own, whatever becomes of those before (open
// loop), from several clients.
#ifndef ENGRAM_TESTS_BENCH_STEADY_H_
#define ENGRAM_TESTS_BENCH_STEADY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct SteadyOptions {
  std::vector<std::string> servers;
  uint32_t layer = 1;
  uint32_t clients = 8;  // each with a thread and connections of its own
  double rate = 100;     // lookups a second of all of them; each client's are a Poisson process
  uint32_t batch = 512;  // rows a lookup, uniform
  absl::Duration time = absl::Seconds(5);      // measured
  absl::Duration warm_up = absl::Seconds(1);   // before that
  absl::Duration timeout = absl::Seconds(1);   // of a lookup
  absl::Duration spin = absl::ZeroDuration();  // ClientOptions::spin
  double hedge_share = 0.05;                   // ClientOptions::hedge_share
  uint64_t seed = 1;                           // of the times

  // InvalidArgument naming the flag.
  absl::Status Validate() const;
};

// The figures as tests/bench/README.md defines them. The codes of Client::Connect and of a submit
// that is refused; a lookup that fails later is counted.
absl::StatusOr<nlohmann::json> RunSteady(const SteadyOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_STEADY_H_

// `engram-bench gather`: lookups of one layer from running servers, as fast as they come.
#ifndef ENGRAM_TESTS_BENCH_GATHER_H_
#define ENGRAM_TESTS_BENCH_GATHER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/credentials.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct GatherOptions {
  std::vector<std::string> servers;
  Credentials credentials;
  uint32_t layer = 1;
  uint32_t batch = 4096;  // rows a lookup
  uint32_t depth = 4;     // lookups in flight
  absl::Duration time = absl::Seconds(5);
  std::string ids = "uniform";                 // as DrawRows takes it
  absl::Duration spin = absl::ZeroDuration();  // ClientOptions::spin
  uint32_t io_threads = 1;                     // ClientOptions::io_threads
  bool dedup = true;                           // ClientOptions::dedup
  uint64_t cache_mb = 0;                       // ClientOptions::cache_bytes
  double verify_share = 0;                     // ClientOptions::verify_share
  std::string metrics;                         // host:port of the client's; empty: nowhere
  std::vector<pid_t> server_pids;              // empty: found by the servers' addresses

  // InvalidArgument naming the flag.
  absl::Status Validate() const;
};

// The figures as tests/bench/README.md defines them. The codes of Client::Connect and
// DrawRows, and of a lookup that failed: it ends the run, since a figure with failures means
// nothing.
absl::StatusOr<nlohmann::json> RunGather(const GatherOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_GATHER_H_

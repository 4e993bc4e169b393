// `engram-bench restart`: how long a server takes to serve again with its rows in an arena file.
#ifndef ENGRAM_TESTS_BENCH_RESTART_H_
#define ENGRAM_TESTS_BENCH_RESTART_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct RestartOptions {
  std::vector<double> gb = {1, 4, 8};  // bytes of rows of each table, in turn
  std::string tmpfs = "/dev/shm";      // where arenas live meanwhile; room for the largest
  std::string tokenizer;               // a tokenizer.json for the checkpoints; empty: none
  uint32_t rounds = 5;                 // restarts of each
};

// The figures as tests/bench/README.md defines them. DataLoss where a row is not what it was
// written as; else codes of the servers' ends and of the client.
absl::StatusOr<nlohmann::json> RunRestart(const RestartOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_RESTART_H_

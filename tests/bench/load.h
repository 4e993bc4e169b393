// `engram-bench load`: a checkpoint into memory, against a plain copy of its files.
#ifndef ENGRAM_TESTS_BENCH_LOAD_H_
#define ENGRAM_TESTS_BENCH_LOAD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct LoadBenchOptions {
  std::string checkpoint;          // with its sidecar
  std::string tmpfs = "/dev/shm";  // where `cat` writes to
  uint32_t rounds = 5;             // each a copy and a load on one core, then on all
};

// The figures as tests/bench/README.md defines them. Each load and each copy is a process of its
// own; the first round warms the page cache and does not count. The codes of LoadTable; Internal
// where a copy fails.
absl::StatusOr<nlohmann::json> RunLoad(const LoadBenchOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_LOAD_H_

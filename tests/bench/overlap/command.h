#ifndef ENGRAM_TESTS_BENCH_OVERLAP_COMMAND_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "tests/bench/overlap/overlap.h"

namespace engram::bench {

// The flags of `engram-bench overlap`. Options() once they are parsed.
class OverlapFlags {
 public:
  explicit OverlapFlags(CLI::App* command);
  absl::StatusOr<OverlapOptions> Options() const;

 private:
  absl::StatusOr<std::optional<Shape>> CustomShape() const;

  OverlapOptions options_;
  int64_t spin_us_;
  int64_t server_spin_us_;
  std::vector<double> layers_ms_;
  double step_ms_ = 0;
  uint32_t sequences_ = 1;
  uint32_t tokens_ = 0;
  double ahead_ms_ = 0;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_COMMAND_H_

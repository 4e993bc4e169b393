// The steps of a model whose waiting is measured: how many tokens, how long each layer takes, and
// when the token ids are known.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_SHAPE_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_SHAPE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram::bench {

inline constexpr uint32_t kModelLayers = 40;

// Who serves the rows, and what befalls them.
enum class Replicas {
  kOne,     // one server
  kSlow,    // two of the same rows, one of them gets a tenth of its time
  kKilled,  // two of the same rows, one of them is killed in the middle of a run
};

struct Shape {
  std::string name;
  uint32_t sequences = 1;
  uint32_t tokens_per_sequence = 1;
  std::vector<std::chrono::nanoseconds> layers;  // how long each computes
  // The ids of a step are known so long before it starts, at most a step; zero: at its start.
  std::chrono::nanoseconds known_ahead{0};
  bool prefill = false;  // the lookups' priority
  Replicas replicas = Replicas::kOne;
  // Bound on (step fetched ahead - step with a local table) / step with a local table.
  std::optional<double> goal = std::nullopt;
  std::map<uint32_t, double> stall_goal_us_p99 = {};  // by layer
  uint32_t steps = 1;                                 // of one run
  uint32_t rounds = 1;                                // runs of every variant, in turns

  uint32_t tokens() const { return sequences * tokens_per_sequence; }
  std::chrono::nanoseconds step() const;

  // InvalidArgument naming what is wrong: no tokens, no layers, a layer that takes no time, ids
  // known more than a step before.
  absl::Status Validate() const;
};

// `layers` of the same length that add up to `step_ms`.
std::vector<std::chrono::nanoseconds> EqualLayers(double step_ms, uint32_t layers);

// The shapes that `engram-bench overlap` measures by default, in the order of its output.
const std::vector<Shape>& NamedShapes();

// NotFound naming the shapes there are.
absl::StatusOr<Shape> FindShape(const std::string& name);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_SHAPE_H_

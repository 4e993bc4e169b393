// A model's step as far as its tables are concerned: how many tokens, how long each layer computes,
// and when the token ids are known.
#ifndef ENGRAM_DEPLOY_SIZING_STEP_SHAPE_H_
#define ENGRAM_DEPLOY_SIZING_STEP_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram::sizing {

struct StepShape {
  std::string name;
  uint64_t tokens = 0;           // of all sequences together
  std::vector<double> layers_s;  // how long each layer computes, from layer 0 on
  double known_ahead_s = 0;      // the ids are known so long before the step, at most one step
  bool prefill = false;          // lookups' priority; and what repeats is fetched once

  double step_s() const { return LayerBegins(layers_s.size()); }
  // After the step's begin; `layer` at most their number.
  double LayerBegins(size_t layer) const;
  // Of the rows asked for, which travel.
  double wire_share() const;

  // InvalidArgument: no tokens, no layers, a layer that takes no time, ids known before the step
  // before, or no layer where `table_layers` has a table.
  absl::Status Validate(const std::vector<uint32_t>& table_layers) const;
};

// `layers` equal ones that take `step_s` together.
std::vector<double> EqualLayers(double step_s, size_t layers);

// Those of `engram-bench overlap` that are answered by one healthy server (tests/bench/overlap,
// whose definitions a test holds these against).
const std::vector<StepShape>& NamedStepShapes();

// InvalidArgument naming the shapes there are.
absl::StatusOr<StepShape> FindStepShape(const std::string& name);

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_STEP_SHAPE_H_

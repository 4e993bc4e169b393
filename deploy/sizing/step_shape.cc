#include "deploy/sizing/step_shape.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "deploy/sizing/costs.h"

namespace engram::sizing {
namespace {

constexpr size_t kModelLayers = 40;

StepShape Decode(const char* name, uint64_t tokens, double step_ms, double ahead_ms = 0) {
  return {name, tokens, EqualLayers(step_ms * 1e-3, kModelLayers), ahead_ms * 1e-3, false};
}

StepShape Prefill(const char* name, double ahead_ms) {
  StepShape shape = Decode(name, 8192, 300, ahead_ms);
  shape.prefill = true;
  return shape;
}

}  // namespace

std::vector<double> EqualLayers(double step_s, size_t layers) {
  return std::vector<double>(layers, step_s / static_cast<double>(layers));
}

const std::vector<StepShape>& NamedStepShapes() {
  static const std::vector<StepShape>* const shapes =
      new std::vector<StepShape>{Decode("decode-64-12ms", 64, 12),
                                 Decode("decode-64-48ms", 64, 48),
                                 Decode("verify-64x6-12ms-ahead", 64 * 6, 12, 3),
                                 Decode("verify-64x6-12ms", 64 * 6, 12),
                                 Decode("decode-1-sm100", 1, 4.76),
                                 Decode("decode-16-sm100", 16, 7.97),
                                 Prefill("prefill-8192-ahead", 300),
                                 Prefill("prefill-8192", 0)};
  return *shapes;
}

absl::StatusOr<StepShape> FindStepShape(const std::string& name) {
  std::string names;
  for (const StepShape& shape : NamedStepShapes()) {
    if (shape.name == name) return shape;
    absl::StrAppend(&names, names.empty() ? "" : ", ", shape.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("no shape `", name, "`; there are ", names));
}

double StepShape::LayerBegins(size_t layer) const {
  return std::accumulate(layers_s.begin(), layers_s.begin() + static_cast<ptrdiff_t>(layer), 0.0);
}

double StepShape::wire_share() const { return prefill ? PrefillWireShare(tokens) : 1; }

absl::Status StepShape::Validate(const std::vector<uint32_t>& table_layers) const {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", name, ": ", what));
  };
  if (tokens == 0 || tokens > (uint64_t{1} << 24)) return wrong("between 1 and 2^24 tokens a step");
  if (layers_s.empty()) return wrong("no layers");
  for (const double layer : layers_s) {
    if (!(layer > 0 && layer < 1e4)) return wrong("a layer takes no time, or hours");
  }
  if (!(known_ahead_s >= 0 && known_ahead_s <= step_s() * (1 + 1e-9))) {
    return wrong("ids are known between 0 and one step before the step");
  }
  for (const uint32_t layer : table_layers) {
    if (layer < layers_s.size()) continue;
    return wrong(
        absl::StrCat("has ", layers_s.size(), " layers, but there is a table at layer ", layer));
  }
  return absl::OkStatus();
}

}  // namespace engram::sizing

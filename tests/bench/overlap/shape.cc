#include "tests/bench/overlap/shape.h"

#include <numeric>

#include "absl/strings/str_cat.h"

namespace engram::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Steps and rounds are such that all shapes together take under four minutes.
Shape Decode(const char* name, uint32_t sequences, double step_ms, uint32_t steps) {
  Shape shape;
  shape.name = name;
  shape.sequences = sequences;
  shape.layers = EqualLayers(step_ms, kModelLayers);
  shape.steps = steps;
  shape.rounds = 7;
  return shape;
}

Shape WithGoal(Shape shape, double goal) {
  shape.goal = goal;
  return shape;
}

// Steps of SM100 are too short to hide layer 1; layer 14 must never be waited for.
Shape Sm100(const char* name, uint32_t tokens, double step_ms) {
  Shape shape = Decode(name, tokens, step_ms, 80);
  shape.stall_goal_us_p99 = {{14, 0}};
  return shape;
}

Shape Verify(const char* name, nanoseconds known_ahead) {
  Shape shape = Decode(name, 64, 12, 40);
  shape.tokens_per_sequence = 6;
  shape.known_ahead = known_ahead;
  return shape;
}

Shape Prefill(const char* name, nanoseconds known_ahead) {
  Shape shape = Decode(name, 1, 300, 4);
  shape.tokens_per_sequence = 8192;
  shape.known_ahead = known_ahead;
  shape.prefill = true;
  shape.rounds = 4;
  return shape;
}

Shape Replicated(const char* name, Replicas replicas) {
  Shape shape = Decode(name, 64, 48, 16);
  shape.replicas = replicas;
  shape.rounds = 5;
  return WithGoal(shape, 0.03);
}

std::vector<Shape> MakeShapes() {
  Shape slow_step = WithGoal(Decode("decode-64-48ms", 64, 48, 20), 0.003);
  slow_step.rounds = 5;
  return {WithGoal(Decode("decode-64-12ms", 64, 12, 60), 0.01),
          slow_step,
          WithGoal(Verify("verify-64x6-12ms-ahead", milliseconds(3)), 0.01),
          Verify("verify-64x6-12ms", nanoseconds(0)),
          Sm100("decode-1-sm100", 1, 4.76),
          Sm100("decode-16-sm100", 16, 7.97),
          WithGoal(Prefill("prefill-8192-ahead", milliseconds(300)), 0.01),
          Prefill("prefill-8192", nanoseconds(0)),
          Replicated("replica-slow", Replicas::kSlow),
          Replicated("replica-killed", Replicas::kKilled)};
}

}  // namespace

nanoseconds Shape::step() const {
  return std::accumulate(layers.begin(), layers.end(), nanoseconds(0));
}

absl::Status Shape::Validate() const {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", name, ": ", what));
  };
  if (tokens() == 0) return wrong("no tokens");
  if (layers.empty()) return wrong("no layers");
  for (const nanoseconds layer : layers) {
    if (layer <= nanoseconds(0)) return wrong("a layer takes no time");
  }
  if (known_ahead < nanoseconds(0) || known_ahead > step()) {
    return wrong("ids are known between 0 and one step before the step");
  }
  if (steps == 0 || rounds == 0) return wrong("at least one step and one round");
  return absl::OkStatus();
}

std::vector<nanoseconds> EqualLayers(double step_ms, uint32_t layers) {
  return std::vector<nanoseconds>(layers,
                                  nanoseconds(static_cast<int64_t>(step_ms * 1e6 / layers)));
}

const std::vector<Shape>& NamedShapes() {
  static const std::vector<Shape>* const shapes = new std::vector<Shape>(MakeShapes());
  return *shapes;
}

absl::StatusOr<Shape> FindShape(const std::string& name) {
  std::string names;
  for (const Shape& shape : NamedShapes()) {
    if (shape.name == name) return shape;
    absl::StrAppend(&names, names.empty() ? "" : ", ", shape.name);
  }
  return absl::NotFoundError(absl::StrCat("no shape `", name, "`; there are ", names));
}

}  // namespace engram::bench

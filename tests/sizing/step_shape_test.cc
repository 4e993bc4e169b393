#include "deploy/sizing/step_shape.h"

#include <gmock/gmock.h>

#include "tests/bench/overlap/shape.h"
#include "tests/support/status_matchers.h"

namespace engram::sizing {
namespace {

double SecondsOf(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

TEST(StepShape, NamedOnesAreThoseOfTheBenchmark) {
  size_t of_one_server = 0;
  for (const bench::Shape& measured : bench::NamedShapes()) {
    if (measured.replicas != bench::Replicas::kOne) continue;
    ++of_one_server;
    const auto shape = FindStepShape(measured.name);
    ASSERT_TRUE(shape.ok()) << measured.name;
    EXPECT_EQ(shape->tokens, measured.tokens()) << measured.name;
    EXPECT_EQ(shape->prefill, measured.prefill) << measured.name;
    EXPECT_NEAR(shape->known_ahead_s, SecondsOf(measured.known_ahead), 1e-9) << measured.name;
    ASSERT_EQ(shape->layers_s.size(), measured.layers.size()) << measured.name;
    for (size_t i = 0; i < measured.layers.size(); ++i) {
      EXPECT_NEAR(shape->layers_s[i], SecondsOf(measured.layers[i]), 1e-9) << measured.name;
    }
  }
  EXPECT_EQ(NamedStepShapes().size(), of_one_server);
}

}  // namespace
}  // namespace engram::sizing

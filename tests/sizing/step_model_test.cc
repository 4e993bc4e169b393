#include "deploy/sizing/step_model.h"

#include <gmock/gmock.h>

#include "tests/support/status_matchers.h"

namespace engram::sizing {
namespace {

constexpr double kUs = 1e-6;
constexpr uint32_t kRoundRowBytes = 250;

// Round figures: a request 10 us and a row 100 ns of the server, 20 us and 50 ns of the client.
Costs RoundCosts() { return {10, 100, 20, 50, 30}; }

Network TenGbit() { return {10, 100}; }

StepShape TenLayersOf1ms() {
  StepShape shape;
  shape.name = "test";
  shape.tokens = 100;
  shape.layers_s = EqualLayers(0.010, 10);
  return shape;
}

TEST(StepModel, StagesByHand) {
  const LayerLoad load{1, 1000, 800, 4, 0.5};
  const StageTimes stages = StagesOf(load, RoundCosts(), TenGbit(), kRoundRowBytes);
  // The busiest of four servers: one request of 400 rows.
  EXPECT_NEAR(stages[Stage::kServer], (10 + 400 * 0.1) * kUs, 1e-12);
  EXPECT_NEAR(stages[Stage::kServerLink], 400 * 250 * 8 / 1e10 * 1538 / 1448, 1e-12);
  // All that travels; the client also copies what repeats.
  EXPECT_NEAR(stages[Stage::kClientLink], 800 * 250 * 8 / 1e10 * 1538 / 1448, 1e-12);
  EXPECT_NEAR(stages[Stage::kClient], (4 * 20 + 1000 * 0.05) * kUs, 1e-12);
  EXPECT_EQ(stages.apart, 1);  // 400 rows are less than a mebibyte
  EXPECT_EQ(stages.longest(), Stage::kClientLink);
}

TEST(StepModel, LargeLookupsAreSeveralRequests) {
  const LayerLoad load{1, 100'000, 100'000, 2, 0.5};
  EXPECT_EQ(load.RequestsOfBusiest(), 4);  // of at most 16,384 rows
  EXPECT_EQ(load.Requests(), 8);
  const StageTimes stages = StagesOf(load, RoundCosts(), TenGbit(), kRoundRowBytes);
  EXPECT_NEAR(stages[Stage::kServer], (4 * 10 + 50'000 * 0.1) * kUs, 1e-12);
  EXPECT_NEAR(stages.apart, (1 << 20) / 250.0 / 50'000, 1e-12);
}

TEST(StepModel, OthersTakeTheirShareOfAServer) {
  const LayerLoad load{1, 1000, 1000, 1, 1};
  const StageTimes alone = StagesOf(load, RoundCosts(), TenGbit(), kRoundRowBytes);
  const StageTimes beside = StagesOf(load, RoundCosts(), TenGbit(), kRoundRowBytes, {0.5, 0.75});
  EXPECT_NEAR(beside[Stage::kServer], 2 * alone[Stage::kServer], 1e-12);
  EXPECT_NEAR(beside[Stage::kServerLink], 4 * alone[Stage::kServerLink], 1e-12);
  EXPECT_EQ(beside[Stage::kClient], alone[Stage::kClient]);
}

StageTimes Stages(double server_us, double client_us, double apart = 1) {
  StageTimes stages;
  stages[Stage::kServer] = server_us * kUs;
  stages[Stage::kClient] = client_us * kUs;
  stages.apart = apart;
  return stages;
}

TEST(StepModel, FetchIsTheLongestStageAndWhatDoesNotOverlap) {
  // 30 us of any lookup and a round trip of 100.
  EXPECT_NEAR(FetchSeconds(Stages(200, 80), RoundCosts(), TenGbit()), 410 * kUs, 1e-12);
  EXPECT_NEAR(FetchSeconds(Stages(200, 80, 0.25), RoundCosts(), TenGbit()), 350 * kUs, 1e-12);
  // Behind rows for which the client needs 500 us: it is the longest, and the server's own 200 come
  // before it.
  EXPECT_NEAR(FetchSeconds(Stages(200, 80), RoundCosts(), TenGbit(), Stages(100, 500)), 910 * kUs,
              1e-12);
}

TEST(StepModel, NeededWaitsForAllOfEveryFetch) {
  const StepTime step = PredictNeeded(TenLayersOf1ms(), {{1, Stages(200, 80)}, {5, Stages(50, 20)}},
                                      RoundCosts(), TenGbit());
  EXPECT_NEAR(step.step_s, 0.010 + (410 + 200) * kUs, 1e-12);
  ASSERT_EQ(step.layers.size(), 2u);
  EXPECT_NEAR(step.layers[0].due_s, 0.001, 1e-12);
  EXPECT_NEAR(step.layers[0].stall_s, 410 * kUs, 1e-12);
  EXPECT_NEAR(step.layers[1].due_s, 0.005 + 410 * kUs, 1e-12);
  EXPECT_NEAR(step.layers[1].arrive_s, 0.005 + 610 * kUs, 1e-12);
}

TEST(StepModel, AheadHidesWhatComesInTime) {
  StepShape shape = TenLayersOf1ms();
  const std::vector<LayerStages> layers = {{1, Stages(1000, 600, 0.5)},
                                           {5, Stages(1000, 600, 0.5)}};
  // Layer 1: 30 + 100 + 1000 + half of the client's 600, and half of both stages of layer 5: 2230.
  StepTime step = PredictAhead(shape, layers, RoundCosts(), TenGbit());
  EXPECT_NEAR(step.layers[0].arrive_s, 2230 * kUs, 1e-12);
  EXPECT_NEAR(step.layers[0].stall_s, 1230 * kUs, 1e-12);
  // Layer 5: 130 + 2 * 1000 + 300, long before it is due.
  EXPECT_NEAR(step.layers[1].arrive_s, 2430 * kUs, 1e-12);
  EXPECT_EQ(step.layers[1].stall_s, 0);
  EXPECT_NEAR(step.step_s, 0.010 + 1230 * kUs, 1e-12);
  shape.known_ahead_s = 0.0012305;  // a wait of half a microsecond more is none
  step = PredictAhead(shape, layers, RoundCosts(), TenGbit());
  EXPECT_EQ(step.stall_s, 0);
  shape.known_ahead_s = 0.0012;
  EXPECT_NEAR(PredictAhead(shape, layers, RoundCosts(), TenGbit()).stall_s, 30 * kUs, 1e-12);
}

TEST(StepModel, NoStepIsShorterThanItsBusiestStage) {
  StepShape shape = TenLayersOf1ms();
  shape.known_ahead_s = 0.010;
  const StepTime step = PredictAhead(shape, {{1, Stages(100, 9000, 0)}, {9, Stages(100, 9000, 0)}},
                                     RoundCosts(), TenGbit());
  EXPECT_NEAR(step.step_s, 0.018, 1e-9);
}

TEST(Costs, WireShareIsThatOfTheTableOfMeasurements) {
  EXPECT_EQ(PrefillWireShare(1), 1);
  EXPECT_DOUBLE_EQ(PrefillWireShare(8192), 0.67);
  EXPECT_DOUBLE_EQ(PrefillWireShare(512), (0.82 + 0.74) / 2);  // halfway, by the logarithm
  EXPECT_DOUBLE_EQ(PrefillWireShare(1 << 20), 0.64);
}

TEST(Costs, RefusesWhatIsNoCost) {
  Costs costs = RoundCosts();
  costs.client_row_ns = -1;
  EXPECT_THAT(costs.Validate().message(), testing::HasSubstr("--client-row-ns -1"));
  costs = RoundCosts();
  costs.server_request_us = costs.server_row_ns = 0;
  EXPECT_EQ(costs.Validate().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Network({0, 1}).Validate().message(), testing::HasSubstr("--nic-gbit 0"));
  EXPECT_DOUBLE_EQ(RoundCosts().WithTls().server_row_ns, 260);
}

TEST(StepShape, RefusesWhatCannotBe) {
  StepShape shape = TenLayersOf1ms();
  EXPECT_TRUE(shape.Validate({1, 9}).ok());
  EXPECT_THAT(shape.Validate({1, 14}).message(),
              testing::HasSubstr("has 10 layers, but there is a table at layer 14"));
  shape.known_ahead_s = 0.011;
  EXPECT_EQ(shape.Validate({1}).code(), absl::StatusCode::kInvalidArgument);
  shape = TenLayersOf1ms();
  shape.layers_s[3] = 0;
  EXPECT_EQ(shape.Validate({1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(FindStepShape("decode").status().message(), testing::HasSubstr("decode-64-12ms"));
}

}  // namespace
}  // namespace engram::sizing

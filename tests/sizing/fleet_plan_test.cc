#include "deploy/sizing/fleet_plan.h"

#include <gmock/gmock.h>

#include "storage/synth_model.h"
#include "tests/support/status_matchers.h"

namespace engram::sizing {
namespace {

using testing::HasSubstr;

constexpr uint32_t kRowBytes = 264;

Geometry SmallTable() {
  return *SynthGeometry(SynthModel::kV41Flash, 10'000, 99'092);  // 127 MB
}

PlanInput Input() {
  PlanInput input;
  input.row_bytes = kRowBytes;
  input.shape = *FindStepShape("decode-64-12ms");
  input.costs = {10, 100, 10, 100, 20};
  input.network = {100, 0};
  input.memory_bytes = uint64_t{1} << 30;
  return input;
}

TEST(FleetPlan, OneServerByHand) {
  const Geometry geometry = SmallTable();
  PlanInput input = Input();
  input.replicas = 1;
  input.gpu_nodes = 3;
  ASSERT_OK_AND_ASSIGN(const FleetPlan plan, PlanFleet(geometry, input));
  EXPECT_EQ(plan.shards, 1u);
  EXPECT_EQ(plan.decided_by, "memory");
  EXPECT_EQ(plan.memory_bytes, geometry.total_rows() * 268 + (64 << 20));
  // Two layers of 64 * 24 rows every 12 ms, three times.
  EXPECT_NEAR(plan.load.requests_per_s, 3 * 2 / 0.012, 1e-6);
  EXPECT_NEAR(plan.load.rows_per_s, 3 * 2 * 1536 / 0.012, 1e-3);
  EXPECT_NEAR(plan.load.cpu_cores, 500 * 10e-6 + 768'000 * 100e-9, 1e-9);
  EXPECT_NEAR(plan.load.gbit_per_s, 768'000 * 264 * 8e-9 * 1538 / 1448, 1e-9);
  EXPECT_EQ(plan.cores, 1u);
  EXPECT_FALSE(plan.load_one_lost.has_value());
  EXPECT_NEAR(plan.client_cpu_cores, (2 * 10e-6 + 2 * 1536 * 100e-9) / 0.012, 1e-9);
  EXPECT_EQ(plan.layers[0].servers_per_token, 1);
}

TEST(FleetPlan, ReplicasShareTheLoad) {
  PlanInput input = Input();
  input.replicas = 3;
  ASSERT_OK_AND_ASSIGN(const FleetPlan plan, PlanFleet(SmallTable(), input));
  EXPECT_NEAR(plan.load.requests_per_s, 2 / 0.012 / 3, 1e-6);
  EXPECT_NEAR(plan.load_one_lost->requests_per_s, 2 / 0.012 / 2, 1e-6);
}

TEST(FleetPlan, AsFewShardsAsFit) {
  const Geometry geometry = SmallTable();
  PlanInput input = Input();
  input.memory_bytes = geometry.total_rows() * 268 / 3 + (64 << 20) + 268 * 2;
  ASSERT_OK_AND_ASSIGN(FleetPlan plan, PlanFleet(geometry, input));
  EXPECT_EQ(plan.shards, 3u);
  EXPECT_LE(plan.memory_bytes, input.memory_bytes);
  input.memory_bytes -= 268 * 4;
  ASSERT_OK_AND_ASSIGN(plan, PlanFleet(geometry, input));
  EXPECT_EQ(plan.shards, 4u);
}

TEST(FleetPlan, MoreShardsWhereALinkOrCoresAreTooFew) {
  PlanInput input = Input();
  input.gpu_nodes = 32;
  input.network.nic_gbit = 10;  // of which both replicas of one shard would need 9.2 each
  ASSERT_OK_AND_ASSIGN(FleetPlan plan, PlanFleet(SmallTable(), input));
  EXPECT_EQ(plan.decided_by, "network");
  EXPECT_LE(plan.link_utilisation, 0.5);
  EXPECT_GT(plan.shards, 1u);
  input = Input();
  input.gpu_nodes = 64;
  input.cores = 1;
  ASSERT_OK_AND_ASSIGN(plan, PlanFleet(SmallTable(), input));
  EXPECT_EQ(plan.decided_by, "cores");
  EXPECT_EQ(plan.cores, 1u);
  EXPECT_LE(plan.cpu_utilisation, 0.5);
}

TEST(FleetPlan, RequestsThatShardsDoNotDivideAreSaid) {
  PlanInput input = Input();
  input.gpu_nodes = 10'000;
  input.cores = 1;
  const auto plan = PlanFleet(SmallTable(), input);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(plan.status().message(), HasSubstr("more shards do not help"));
}

TEST(FleetPlan, RefusesWhatCannotBe) {
  const auto message = [](auto change) {
    PlanInput input = Input();
    change(input);
    const auto plan = PlanFleet(SmallTable(), input);
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(plan.status().message());
  };
  EXPECT_THAT(message([](PlanInput& input) { input.replicas = 0; }), HasSubstr("--replicas 0"));
  EXPECT_THAT(message([](PlanInput& input) { input.memory_bytes = 1 << 20; }),
              HasSubstr("the smallest server, of 65536 shards"));
  EXPECT_THAT(message([](PlanInput& input) { input.tokens_per_s = 1e6; }),
              HasSubstr("makes at most 5333.3"));
  EXPECT_THAT(message([](PlanInput& input) { input.max_utilisation = 1; }),
              HasSubstr("--max-utilisation 1"));
  EXPECT_THAT(message([](PlanInput& input) {
                input.memory_bytes = (64 << 20) + 100'000'000;
                input.shards = 1;
              }),
              HasSubstr("--shards 1: a server takes"));
}

TEST(FleetPlan, AgainstACopyPerNode) {
  const Geometry geometry = SmallTable();
  PlanInput input = Input();
  input.replicas = 2;
  input.gpu_nodes = 16;
  ASSERT_OK_AND_ASSIGN(const FleetPlan plan, PlanFleet(geometry, input));
  const uint64_t table = geometry.total_rows() * kRowBytes;
  const CopiesComparison compared = CompareWithCopies(plan, table, 16, {2, 5, 7});
  EXPECT_EQ(compared.fleet_bytes, 2 * plan.memory_bytes);
  EXPECT_EQ(compared.copies_bytes, 16 * table);
  const double gib = 1 << 30;
  EXPECT_NEAR(compared.fleet_cost,
              2 * (static_cast<double>(plan.memory_bytes) / gib * 2 + plan.cores * 5 + 7), 1e-9);
  EXPECT_NEAR(compared.copies_cost, 16 * static_cast<double>(table) / gib * 2, 1e-9);
}

}  // namespace
}  // namespace engram::sizing

#include "deploy/sizing/simulation.h"

#include <gmock/gmock.h>

#include <random>

#include "deploy/sizing/lookup_pool.h"
#include "deploy/sizing/sim_server.h"
#include "proto/range_map.h"
#include "storage/synth_model.h"
#include "tests/support/status_matchers.h"

namespace engram::sizing {
namespace {

using testing::HasSubstr;

constexpr double kFast = 1e6;  // Gbit/s: a link that takes no time

Geometry SmallTableOf41() { return *SynthGeometry(SynthModel::kV41Flash, 10'000, 99'092); }

// One server, one worker that asks for 24 rows of one layer a millisecond; a request of 10 us and a
// row of 1 us, of the server alone.
Scenario OneServer() {
  Scenario scenario;
  scenario.row_bytes = 264;
  WorkerGroup group;
  group.workers = 1;
  group.shape.name = "test";
  group.shape.tokens = 1;
  group.shape.layers_s = EqualLayers(0.001, 40);
  group.arrivals = Arrivals::kEven;
  group.lookups_per_s = 1000;
  scenario.groups = {group};
  scenario.costs = {10, 1000, 0, 0, 0};
  scenario.network = {kFast, 0};
  scenario.warm_up_s = 0.1;
  scenario.seconds = 1;
  return scenario;
}

SimulationResult Simulated(const Scenario& scenario) {
  return *Simulate(SmallTableOf41(), scenario);
}

TEST(CpuQuota, ByHand) {
  CpuQuota quota(0.25, 100, 0, 0);  // 25 of every 100 ns
  EXPECT_EQ(quota.Finish(10, 20), 30);
  EXPECT_EQ(quota.Finish(40, 10), 105);   // 5 are left, 5 come from the next period
  EXPECT_EQ(quota.Finish(105, 45), 225);  // 20 are left of this period, 25 are the next one's
  EXPECT_EQ(quota.Finish(490, 15), 505);  // a period's end is no end of work
  CpuQuota carrying(0.25, 100, 0, 10);
  EXPECT_EQ(carrying.Finish(10, 5), 15);
  EXPECT_EQ(carrying.Finish(110, 40), 205);  // 10 of the 20 that were left, 25, 5 of the next
  EXPECT_EQ(carrying.Finish(300, 40), 405);  // the same again
  CpuQuota none(0, 100, 0, 0);
  EXPECT_EQ(none.Finish(7, 1000), 1007);
}

TEST(LatencyHistogram, PercentilesAreClose) {
  LatencyHistogram times;
  for (int64_t i = 1; i <= 100'000; ++i) times.Add(i * 1000);
  EXPECT_NEAR(static_cast<double>(times.Percentile(0.5)), 50e6, 50e6 / 60);
  EXPECT_NEAR(static_cast<double>(times.Percentile(0.99)), 99e6, 99e6 / 60);
  EXPECT_EQ(times.Percentile(1), 100'000'000);
  EXPECT_EQ(LatencyHistogram().Percentile(0.99), 0);
}

TEST(LookupPool, RowsLieWhereShardRangesPutThem) {
  const Geometry geometry = SmallTableOf41();
  const uint64_t rows = geometry.layers()[0].rows;
  for (const uint32_t shards : {1u, 7u, 30u}) {
    for (uint32_t i = 0; i < shards; ++i) {
      const RowRange range = ShardRanges(geometry, {i, shards})[0];
      EXPECT_EQ(ShardOfRow(range.begin, rows, shards), i);
      EXPECT_EQ(ShardOfRow(range.end - 1, rows, shards), i);
    }
  }
}

TEST(LookupPool, EveryTokenAsksEveryColumnOnce) {
  std::mt19937_64 random(1);
  const Geometry geometry = SmallTableOf41();
  const LookupPool pool(geometry.layers()[0], 100, 1, 24, 50, random);
  double parts = 0;
  for (size_t i = 0; i < pool.size(); ++i) {
    uint64_t rows = 0;
    for (const DrawnPart& part : pool[i]) rows += part.rows;
    EXPECT_EQ(rows, 2400u);
    parts += static_cast<double>(pool[i].size());
  }
  EXPECT_NEAR(parts / 50, 24, 0.5);
  const LookupPool large(geometry.layers()[0], 2000, 0.5, 1, 4, random);
  ASSERT_EQ(large[0].size(), 2u);  // 24,000 rows in requests of at most 16,384
  EXPECT_EQ(large[0][0].rows, 16384u);
  EXPECT_NEAR(large[0][1].rows, 24'000 - 16'384, 500);
}

TEST(Simulation, AnIdleServerTakesWhatItCosts) {
  Scenario scenario = OneServer();
  scenario.costs = {10, 1000, 5, 250, 20};
  scenario.network.rtt_us = 100;
  const SimulationResult result = Simulated(scenario);
  // 20 + 100 + (10 + 24) + (5 + 6) us.
  EXPECT_NEAR(result.latency.mean_ns(), 165e3, 20);
  EXPECT_NEAR(result.offered_per_s, 1000, 1);
  EXPECT_NEAR(result.done_per_s, 1000, 1);
  EXPECT_NEAR(result.mean_utilisation, 0.034, 1e-4);
  EXPECT_EQ(result.failed, 0u);
}

TEST(Simulation, WaitingIsThatOfMD1) {
  Scenario scenario = OneServer();  // 34 us a lookup
  scenario.groups[0].arrivals = Arrivals::kPoisson;
  scenario.seconds = 20;
  for (const double load : {0.3, 0.6, 0.8}) {
    scenario.groups[0].lookups_per_s = load / 34e-6;
    const SimulationResult result = Simulated(scenario);
    // Pollaczek and Khinchine: load * service / (2 (1 - load)).
    EXPECT_NEAR(result.server_queue.mean_ns(), load * 34e3 / (2 * (1 - load)),
                0.04 * load * 34e3 / (2 * (1 - load)))
        << load;
    EXPECT_NEAR(result.mean_utilisation, load, 0.01);
  }
}

TEST(Simulation, AServerThatSleepsMustBeWoken) {
  Scenario scenario = OneServer();
  scenario.wake_us = 50;
  EXPECT_NEAR(Simulated(scenario).latency.mean_ns(), 84e3, 20);
  // Where it has always something to do, nobody wakes it.
  scenario.groups[0].arrivals = Arrivals::kPoisson;
  scenario.groups[0].lookups_per_s = 2 / 34e-6;
  scenario.timeout_s = 10;
  EXPECT_NEAR(Simulated(scenario).done_per_s, 1 / 34e-6, 100);
}

TEST(Simulation, MoreThanAServerCanDo) {
  Scenario scenario = OneServer();
  scenario.groups[0].arrivals = Arrivals::kPoisson;
  scenario.groups[0].lookups_per_s = 2 / 34e-6;
  scenario.timeout_s = 0.05;
  const SimulationResult result = Simulated(scenario);
  EXPECT_GT(result.failed, 10'000u);
  EXPECT_NEAR(result.mean_utilisation, 1, 0.01);
  ASSERT_OK_AND_ASSIGN(const Capacity capacity, CapacityOf(SmallTableOf41(), scenario));
  EXPECT_NEAR(capacity.lookups_per_s, 1 / 34e-6, 1);
  EXPECT_EQ(capacity.bound, "server CPU");
}

TEST(Simulation, AQuotaBoundsWhatIsDone) {
  Scenario scenario = OneServer();
  scenario.cpu_quota = 0.1;
  scenario.quota_period_s = 0.02;
  scenario.groups[0].arrivals = Arrivals::kPoisson;
  scenario.groups[0].lookups_per_s = 1500;  // 51 ms of CPU a second
  SimulationResult result = Simulated(scenario);
  EXPECT_NEAR(result.done_per_s, 1500, 100);
  EXPECT_NEAR(result.mean_utilisation, 0.51, 0.04);
  scenario.groups[0].lookups_per_s = 6000;
  scenario.timeout_s = 10;
  EXPECT_NEAR(Simulated(scenario).done_per_s, 0.1 / 34e-6, 40);
}

TEST(Simulation, AnswersOfManyServersMeetAtTheClientsLink) {
  Scenario scenario = OneServer();
  scenario.shards = 24;  // a row of each column, each server of another, more or less
  scenario.costs = {1, 0, 0, 0, 0};
  scenario.network.nic_gbit = 1;
  const SimulationResult result = Simulated(scenario);
  // Up to 24 rows of 264 bytes at once, 2.2 us each: the last waits for the others.
  const double row_ns = 264 * 8 * 1538.0 / 1448;
  EXPECT_LE(static_cast<double>(result.incast.max_ns()), 23 * row_ns + 100);
  EXPECT_GE(static_cast<double>(result.incast.max_ns()), 18 * row_ns);
  EXPECT_NEAR(result.incast.mean_ns(), 11 * row_ns, 1.5 * row_ns);
}

// Four servers that are asked often, of two shards with two replicas each.
Scenario FourServers() {
  Scenario scenario = OneServer();
  scenario.shards = 2;
  scenario.replicas = 2;
  scenario.groups[0].workers = 8;
  scenario.groups[0].arrivals = Arrivals::kPoisson;
  scenario.groups[0].lookups_per_s = 10'000;
  scenario.network.rtt_us = 20;
  return scenario;
}

TEST(Simulation, TheSameSeedGivesTheSame) {
  Scenario scenario = FourServers();
  scenario.service_variation = 0.5;
  const SimulationResult one = Simulated(scenario), same = Simulated(scenario);
  EXPECT_EQ(one.events, same.events);
  EXPECT_EQ(one.latency.mean_ns(), same.latency.mean_ns());
  scenario.seed = 2;
  EXPECT_NE(Simulated(scenario).latency.mean_ns(), one.latency.mean_ns());
}

TEST(Simulation, ALostProcessCostsRetriesAndNoLookup) {
  Scenario scenario = FourServers();
  scenario.lost = LostServer{0.5, /*silent=*/false, 1};
  const SimulationResult result = Simulated(scenario);
  EXPECT_EQ(result.failed, 0u);
  EXPECT_NEAR(result.done_per_s, 10'000, 300);
  scenario.replicas = 1;
  scenario.shards = 4;
  EXPECT_GT(Simulated(scenario).failed, 2000u);  // half of the time nobody holds its rows
}

TEST(Simulation, ALostMachineIsCoveredBySecondRequests) {
  Scenario scenario = FourServers();
  scenario.lost = LostServer{0.5, /*silent=*/true, 1};
  const SimulationResult hedged = Simulated(scenario);
  EXPECT_EQ(hedged.failed, 0u);
  EXPECT_GT(hedged.hedges_won, 0u);
  scenario.hedge.share = 0;
  const SimulationResult alone = Simulated(scenario);
  EXPECT_GT(alone.failed, 0u);
  EXPECT_EQ(alone.hedges, 0u);
}

TEST(Simulation, ARollingUpdateFailsNothingWhereThereAreReplicas) {
  Scenario scenario = FourServers();
  scenario.update = RollingUpdate{0.1, 0.2};
  scenario.slice_s = 0.1;
  SimulationResult result = Simulated(scenario);
  EXPECT_EQ(result.failed, 0u);
  ASSERT_EQ(result.timeline.size(), 10u);
  uint64_t done = 0;
  for (const TimeSlice& slice : result.timeline) done += slice.done;
  EXPECT_EQ(done, result.latency.count());
  scenario.replicas = 1;
  result = Simulated(scenario);
  EXPECT_NEAR(static_cast<double>(result.failed), 2000, 300);  // 0.2 s of it
}

TEST(Simulation, DecodeGoesBeforePrefill) {
  Scenario scenario = OneServer();
  scenario.groups[0].lookups_per_s = 100;
  WorkerGroup prefill = scenario.groups[0];
  prefill.shape.prefill = true;
  prefill.shape.tokens = 100;
  prefill.wire_share = 1;
  prefill.workers = 4;
  prefill.lookups_per_s = 380;  // 2.4 ms each: 92 % of the server
  scenario.groups.push_back(prefill);
  scenario.seconds = 5;
  // Of both kinds; decode's 100 a second of 480 wait for one piece of 993 rows at most.
  const SimulationResult result = Simulated(scenario);
  EXPECT_LT(result.latency.Percentile(0.15), 1'100'000);
  std::swap(scenario.groups[0].shape.prefill, scenario.groups[1].shape.prefill);
  EXPECT_GT(Simulated(scenario).latency.Percentile(0.15), result.latency.Percentile(0.15));
}

TEST(Simulation, RefusesWhatCannotBe) {
  const auto message = [](auto change) {
    Scenario scenario = OneServer();
    change(scenario);
    const auto result = Simulate(SmallTableOf41(), scenario);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(result.status().message());
  };
  EXPECT_THAT(message([](Scenario& s) { s.replicas = 0; }), HasSubstr("--replicas 0"));
  EXPECT_THAT(message([](Scenario& s) { s.groups[0].workers = 0; }), HasSubstr("--workers 0"));
  EXPECT_THAT(message([](Scenario& s) { s.cpu_quota = 2; }), HasSubstr("--cpu-quota 2"));
  EXPECT_THAT(message([](Scenario& s) {
                s.lost = LostServer{0, true, 1};
              }),
              HasSubstr("--lose-server 1: there are 1"));
  EXPECT_THAT(message([](Scenario& s) {
                s.update = RollingUpdate{5, 1};
              }),
              HasSubstr("--update-at-s 5"));
  EXPECT_THAT(message([](Scenario& s) {
                s.groups[0].workers = 10'000;
                s.shards = 500;
              }),
              HasSubstr("more than 4000000 pairs"));
}

}  // namespace
}  // namespace engram::sizing

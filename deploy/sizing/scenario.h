// What is simulated: a fleet, who asks it, and what befalls its servers.
#ifndef ENGRAM_DEPLOY_SIZING_SCENARIO_H_
#define ENGRAM_DEPLOY_SIZING_SCENARIO_H_

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/sizing/costs.h"
#include "deploy/sizing/lookup_pool.h"
#include "deploy/sizing/sim_client.h"
#include "deploy/sizing/step_shape.h"
#include "proto/geometry.h"

namespace engram::sizing {

enum class Arrivals {
  kSteps,    // a worker asks for all layers at once, every step; workers begin at different times
  kEven,     // one layer's lookup after the other, the same time apart
  kPoisson,  // the same, times apart exponential
};

// Workers that do the same. A lookup is one layer's rows of one step.
struct WorkerGroup {
  uint32_t workers = 0;
  StepShape shape;
  Arrivals arrivals = Arrivals::kSteps;
  double lookups_per_s = 0;  // of all of them; 0: steps follow each other
  double wire_share = 0;     // 0: the shape's

  double WireShare() const { return wire_share > 0 ? wire_share : shape.wire_share(); }
};

struct LostServer {
  double at_s = 0;     // after the measured time's begin
  bool silent = true;  // a machine that is gone; else a process: connections are closed at once
  uint32_t server = 0;
};

// Replica 0 of every shard is taken away (it answers what it has), comes back, then replica 1: as
// the chart's StatefulSets do it.
struct RollingUpdate {
  double at_s = 0;       // after the measured time's begin
  double restart_s = 1;  // that each is away
};

struct Scenario {
  uint32_t row_bytes = 0;
  uint32_t shards = 1;
  uint32_t replicas = 1;
  std::vector<WorkerGroup> groups;
  Costs costs;
  Network network;
  uint32_t cores = 1;    // of a server
  double cpu_quota = 0;  // of a server, in cores; 0: none
  double quota_period_s = kQuotaPeriodSeconds;
  double quota_carry_s = kQuotaCarrySeconds;  // of what a period leaves of a quota, at most
  double wake_us = 0;            // CPU of a server for a request that finds a core asleep
  double service_variation = 0;  // standard deviation of a piece's CPU time over its mean
  HedgeRules hedge;
  double timeout_s = 1;    // of a lookup
  double warm_up_s = 0.5;  // before anything is measured
  double seconds = 2;      // measured
  double slice_s = 0;      // of a timeline; 0: none
  uint64_t seed = 1;
  std::optional<LostServer> lost;
  std::optional<RollingUpdate> update;

  // InvalidArgument naming the flag; as Validate of its parts.
  absl::Status Validate(const Geometry& geometry) const;
  uint32_t servers() const { return shards * replicas; }
};

// A group's lookups, by layer.
std::vector<LookupPool> DrawPools(const Geometry& geometry, const WorkerGroup& group,
                                  uint32_t shards, std::mt19937_64& random);

// What a fleet could do for these lookups if nothing ever waited: by its busiest shard's CPU, by
// links, by the workers' own CPU.
struct Capacity {
  double lookups_per_s = 0;
  std::string bound;  // "server CPU", "server link", "client CPU", "client link"
};

// Of the first group's lookups, drawn as Simulate draws them. InvalidArgument: as
// Scenario::Validate.
absl::StatusOr<Capacity> CapacityOf(const Geometry& geometry, const Scenario& scenario);

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SCENARIO_H_

// How many servers of what size a table and its load need. Pure arithmetic; deploy/SIZING.md has
// the formulas in one place.
#ifndef ENGRAM_DEPLOY_SIZING_FLEET_PLAN_H_
#define ENGRAM_DEPLOY_SIZING_FLEET_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/sizing/costs.h"
#include "deploy/sizing/step_model.h"
#include "deploy/sizing/step_shape.h"
#include "proto/geometry.h"

namespace engram::sizing {

struct PlanInput {
  uint32_t row_bytes = 0;
  StepShape shape;
  Costs costs;
  Network network;
  uint64_t memory_bytes = 0;  // of a memory node, for one server
  uint32_t cores = 16;        // of a memory node, for one server
  uint32_t replicas = 2;      // servers of each shard
  uint32_t shards = 0;        // 0: as many as are needed
  uint32_t gpu_nodes = 1;
  uint32_t workers_per_node = 1;  // clients that run steps
  // Of one worker; 0: its steps one behind the other.
  double tokens_per_s = 0;
  double wire_share = 0;         // of the rows asked for, which travel; 0: the shape's
  double max_utilisation = 0.5;  // of a server's cores and link, with all replicas up

  // InvalidArgument naming the flag, or as StepShape::Validate.
  absl::Status Validate(const Geometry& geometry) const;

  double workers() const { return static_cast<double>(gpu_nodes) * workers_per_node; }
  // Of one worker.
  double steps_per_s() const;
};

// What one server does a second: the mean of the replicas of the shard that is asked for most.
struct ServerLoad {
  double requests_per_s = 0;
  double rows_per_s = 0;
  double cpu_cores = 0;   // CPU seconds a second
  double gbit_per_s = 0;  // answers, headers of packets included

  ServerLoad Times(double factor) const;
};

struct PlannedLayer {
  LayerLoad load;
  double servers_per_token = 0;
};

struct FleetPlan {
  uint32_t shards = 0;
  uint32_t replicas = 0;
  std::string decided_by;  // memory, network, cores or --shards
  uint64_t largest_rows = 0;
  uint64_t memory_bytes = 0;  // of a server of the largest shard
  uint32_t cores = 0;         // of a server, so that its CPU stays below max_utilisation
  ServerLoad load;            // all replicas up
  std::optional<ServerLoad> load_one_lost;  // of those left of its shard; none: nobody is left
  double cpu_utilisation = 0;
  double link_utilisation = 0;
  double client_cpu_cores = 0;   // of one worker's I/O thread
  double client_gbit_per_s = 0;  // of one worker
  std::vector<PlannedLayer> layers;
  StepTime ahead;
  StepTime needed;

  uint64_t servers() const { return uint64_t{shards} * replicas; }
};

// The fewest equal shards whose largest fits into memory_bytes and whose servers stay within
// max_utilisation of link and cores; or input.shards.
// InvalidArgument: as Validate; a memory below that of the smallest shard there can be, or one that
// input.shards do not fit into. FailedPrecondition: no number of shards will do, since every server
// is asked a request by every lookup: more replicas are wanted; input.shards are too busy.
absl::StatusOr<FleetPlan> PlanFleet(const Geometry& geometry, const PlanInput& input);

// Memory that a server of so many rows takes.
uint64_t ServerMemory(uint64_t rows, uint32_t row_bytes);

struct Prices {  // a month, in any one currency
  double memory_gib = 0;
  double core = 0;
  double server = 0;  // what a server costs beside them: its slot, its port
};

// The fleet against a copy of the table in the memory of every GPU node.
struct CopiesComparison {
  uint64_t fleet_bytes = 0;
  uint64_t copies_bytes = 0;
  double fleet_cost = 0;
  double copies_cost = 0;
};
CopiesComparison CompareWithCopies(const FleetPlan& plan, uint64_t table_bytes, uint32_t gpu_nodes,
                                   const Prices& prices);

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_FLEET_PLAN_H_

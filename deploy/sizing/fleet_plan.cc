#include "deploy/sizing/fleet_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"
#include "proto/range_map.h"
#include "proto/shard_layout.h"

namespace engram::sizing {
namespace {

double Gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

double WireShareOf(const PlanInput& input) {
  return input.wire_share > 0 ? input.wire_share : input.shape.wire_share();
}

ShardLayout LayoutOf(const Geometry& geometry, uint32_t shards, uint64_t tokens) {
  std::vector<std::vector<RowRange>> ranges;
  for (uint32_t i = 0; i < shards; ++i) ranges.push_back(ShardRanges(geometry, {i, shards}));
  return PlanShardLayout(geometry, ranges, tokens);
}

// The largest equal shard, without laying all of them out: no layer's parts differ by more than
// one.
uint64_t LargestRows(const Geometry& geometry, uint32_t shards) {
  uint64_t rows = 0;
  for (const LayerGeometry& layer : geometry.layers()) rows += (layer.rows + shards - 1) / shards;
  return rows;
}

// The fewest shards that fit.
absl::StatusOr<uint32_t> ShardsByMemory(const Geometry& geometry, const PlanInput& input) {
  const auto fits = [&](uint32_t shards) {
    return ServerMemory(LargestRows(geometry, shards), input.row_bytes) <= input.memory_bytes;
  };
  if (!fits(kMaxShards)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--memory-gib %g: the smallest server, of %d shards, takes %.3f GiB (%d MiB of them "
        "beside its rows)",
        Gib(input.memory_bytes), kMaxShards,
        Gib(ServerMemory(LargestRows(geometry, kMaxShards), input.row_bytes)),
        kProcessBytes >> 20));
  }
  uint32_t low = 1, high = kMaxShards;  // high fits
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (fits(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Everything that follows from the number of shards.
FleetPlan Lay(const Geometry& geometry, const PlanInput& input, uint32_t shards) {
  FleetPlan plan;
  plan.shards = shards;
  plan.replicas = input.replicas;
  const ShardLayout layout = LayoutOf(geometry, shards, input.shape.tokens);
  const ShardLayout of_token = LayoutOf(geometry, shards, 1);
  plan.largest_rows = layout.largest_rows;
  plan.memory_bytes = ServerMemory(layout.largest_rows, input.row_bytes);
  const double rows = static_cast<double>(input.shape.tokens) * geometry.columns();
  ServerLoad step;  // what one step asks of the busiest shard
  double client_requests = 0, client_rows = 0, client_bytes = 0;
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    const LayerSpread& spread = layout.layers[i];
    const LayerLoad load{spread.layer, rows, rows * WireShareOf(input), spread.shards_per_batch,
                         spread.largest_share};
    // Not every shard is asked by every lookup, where tokens are few.
    step.requests_per_s += load.Requests() / shards;
    step.rows_per_s += load.wire_rows * load.largest_share;
    client_requests += load.Requests();
    client_rows += load.rows;
    client_bytes += load.wire_rows * input.row_bytes;
    plan.layers.push_back({load, of_token.layers[i].shards_per_token});
  }
  step.cpu_cores = input.costs.ServerSeconds(step.requests_per_s, step.rows_per_s);
  step.gbit_per_s = step.rows_per_s * input.row_bytes * kWireOverhead * 8e-9;
  const double steps_per_s = input.steps_per_s();
  plan.load = step.Times(input.workers() * steps_per_s / input.replicas);
  if (input.replicas > 1) {
    plan.load_one_lost =
        plan.load.Times(static_cast<double>(input.replicas) / (input.replicas - 1));
  }
  plan.cores = static_cast<uint32_t>(
      std::min(1e9, std::max(1.0, std::ceil(plan.load.cpu_cores / input.max_utilisation))));
  plan.cpu_utilisation = plan.load.cpu_cores / plan.cores;
  plan.link_utilisation = plan.load.gbit_per_s / input.network.nic_gbit;
  plan.client_cpu_cores = steps_per_s * input.costs.ClientSeconds(client_requests, client_rows);
  plan.client_gbit_per_s = steps_per_s * client_bytes * kWireOverhead * 8e-9;
  return plan;
}

bool LinkIsFine(const FleetPlan& plan, const PlanInput& input) {
  return plan.link_utilisation <= input.max_utilisation;
}

bool CoresAreFine(const FleetPlan& plan, const PlanInput& input) {
  return plan.cores <= input.cores;
}

absl::Status TooBusy(const FleetPlan& plan, const PlanInput& input) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "%d shards of %d replicas are too busy: a server is asked for %.0f requests and %.3g rows/s, "
      "%.1f Gbit/s (--nic-gbit %g) and %d cores at --max-utilisation %g (--cores %d)",
      plan.shards, plan.replicas, plan.load.requests_per_s, plan.load.rows_per_s,
      plan.load.gbit_per_s, input.network.nic_gbit, plan.cores, input.max_utilisation,
      input.cores));
}

absl::StatusOr<FleetPlan> PlanShards(const Geometry& geometry, const PlanInput& input) {
  ASSIGN_OR_RETURN(uint32_t shards, ShardsByMemory(geometry, input));
  if (input.shards != 0) {
    if (input.shards < shards) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--shards %d: a server takes %.2f GiB and --memory-gib is %g; %d shards fit",
          input.shards, Gib(ServerMemory(LargestRows(geometry, input.shards), input.row_bytes)),
          Gib(input.memory_bytes), shards));
    }
    FleetPlan plan = Lay(geometry, input, input.shards);
    plan.decided_by = "--shards";
    if (!LinkIsFine(plan, input) || !CoresAreFine(plan, input)) return TooBusy(plan, input);
    return plan;
  }
  std::string decided_by = "memory";
  double last_cost = INFINITY;
  while (true) {
    FleetPlan plan = Lay(geometry, input, shards);
    plan.decided_by = decided_by;
    const bool link_is_fine = LinkIsFine(plan, input);
    if (link_is_fine && CoresAreFine(plan, input)) return plan;
    const double too_much = std::max(plan.link_utilisation / input.max_utilisation,
                                     plan.load.cpu_cores / input.max_utilisation / input.cores);
    // Requests a server do not fall with more shards: where they are all that is left, more help no
    // more.
    if (too_much > last_cost * 0.999 || shards >= kMaxShards / 2) {
      absl::Status status = TooBusy(plan, input);
      return absl::FailedPreconditionError(absl::StrCat(
          status.message(), "; more shards do not help, more --replicas or --cores do"));
    }
    last_cost = too_much;
    decided_by = link_is_fine ? "cores" : "network";
    // Halfway to what would do if all of it were rows, so as not to go beyond.
    shards = std::max(shards + 1, static_cast<uint32_t>(shards * (1 + (too_much - 1) / 2)));
  }
}

}  // namespace

uint64_t ServerMemory(uint64_t rows, uint32_t row_bytes) {
  return rows * (row_bytes + kChecksumBytes) + kProcessBytes;
}

ServerLoad ServerLoad::Times(double factor) const {
  return {requests_per_s * factor, rows_per_s * factor, cpu_cores * factor, gbit_per_s * factor};
}

double PlanInput::steps_per_s() const {
  return tokens_per_s > 0 ? tokens_per_s / static_cast<double>(shape.tokens) : 1 / shape.step_s();
}

absl::Status PlanInput::Validate(const Geometry& geometry) const {
  RETURN_IF_ERROR(shape.Validate(geometry.params().layer_ids));
  RETURN_IF_ERROR(costs.Validate());
  RETURN_IF_ERROR(network.Validate());
  const auto wrong = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  if (replicas == 0) return wrong("--replicas 0: a shard needs a server");
  if (gpu_nodes == 0 || workers_per_node == 0) {
    return wrong("--gpu-nodes ", gpu_nodes, ", --workers-per-node ", workers_per_node,
                 ": nobody asks");
  }
  if (cores == 0) return wrong("--cores 0: a server needs one");
  if (shards > kMaxShards) {
    return wrong("--shards ", shards, ": at most ", kMaxShards, " are accepted");
  }
  if (!(max_utilisation > 0 && max_utilisation < 1)) {
    return wrong("--max-utilisation ", max_utilisation, " is not between 0 and 1");
  }
  if (!(tokens_per_s >= 0 && tokens_per_s <= 1e12)) {
    return wrong("--tokens-per-s ", tokens_per_s, " is not between 0 and 1e12");
  }
  if (!(wire_share >= 0 && wire_share <= 1)) {
    return wrong("--wire-share ", wire_share, " is not between 0 and 1");
  }
  const double most = static_cast<double>(shape.tokens) / shape.step_s();
  if (tokens_per_s > most * (1 + 1e-9)) {
    return wrong("--tokens-per-s ", tokens_per_s, ": a worker whose step of ", shape.tokens,
                 " tokens takes ", shape.step_s() * 1e3, " ms makes at most ", most);
  }
  return absl::OkStatus();
}

absl::StatusOr<FleetPlan> PlanFleet(const Geometry& geometry, const PlanInput& input) {
  RETURN_IF_ERROR(input.Validate(geometry));
  ASSIGN_OR_RETURN(FleetPlan plan, PlanShards(geometry, input));
  // A worker's own step does not wait for itself.
  const double others = (input.workers() - 1) / input.workers();
  std::vector<LayerStages> stages;
  for (const PlannedLayer& layer : plan.layers) {
    stages.push_back({layer.load.layer,
                      StagesOf(layer.load, input.costs, input.network, input.row_bytes,
                               {others * plan.cpu_utilisation, others * plan.link_utilisation})});
  }
  std::sort(stages.begin(), stages.end(),
            [](const LayerStages& a, const LayerStages& b) { return a.layer < b.layer; });
  plan.ahead = PredictAhead(input.shape, stages, input.costs, input.network);
  plan.needed = PredictNeeded(input.shape, stages, input.costs, input.network);
  return plan;
}

CopiesComparison CompareWithCopies(const FleetPlan& plan, uint64_t table_bytes, uint32_t gpu_nodes,
                                   const Prices& prices) {
  CopiesComparison result;
  result.fleet_bytes = plan.servers() * plan.memory_bytes;
  result.copies_bytes = gpu_nodes * table_bytes;
  const double servers = static_cast<double>(plan.servers());
  result.fleet_cost = Gib(result.fleet_bytes) * prices.memory_gib +
                      servers * (plan.cores * prices.core + prices.server);
  result.copies_cost = Gib(result.copies_bytes) * prices.memory_gib;
  return result;
}

}  // namespace engram::sizing

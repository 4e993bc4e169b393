#include "deploy/sizing/scenario.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/range_map.h"

namespace engram::sizing {
namespace {

constexpr size_t kRowsDrawn = 1 << 20;  // of each pool, about
constexpr uint64_t kMaxPeers = 4'000'000;

// What the lookups of a group take on average.
struct MeanLookup {
  double busiest_cpu_s = 0;  // of the shard that they ask for most
  double busiest_rows = 0;
  double parts = 0;
  double rows = 0;
};

MeanLookup MeanOf(const std::vector<LookupPool>& pools, const Scenario& scenario) {
  std::vector<double> cpu_s(scenario.shards), rows(scenario.shards);
  MeanLookup mean;
  double lookups = 0;
  for (const LookupPool& pool : pools) {
    lookups += static_cast<double>(pool.size());
    for (size_t i = 0; i < pool.size(); ++i) {
      for (const DrawnPart& part : pool[i]) {
        cpu_s[part.shard] += scenario.costs.ServerSeconds(1, part.rows);
        rows[part.shard] += part.rows;
        mean.parts += 1;
        mean.rows += part.rows;
      }
    }
  }
  mean.parts /= lookups;
  mean.rows /= lookups;
  mean.busiest_cpu_s = *std::max_element(cpu_s.begin(), cpu_s.end()) / lookups;
  mean.busiest_rows = *std::max_element(rows.begin(), rows.end()) / lookups;
  return mean;
}

}  // namespace

absl::Status Scenario::Validate(const Geometry& geometry) const {
  const auto wrong = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  if (shards == 0 || shards > kMaxShards) {
    return wrong("--shards ", shards, " is not between 1 and ", kMaxShards);
  }
  if (replicas == 0 || replicas > 32) {
    return wrong("--replicas ", replicas, " is not between 1 and 32");
  }
  if (cores == 0 || cores > 1024) return wrong("--cores ", cores, " is not between 1 and 1024");
  RETURN_IF_ERROR(costs.Validate());
  RETURN_IF_ERROR(network.Validate());
  uint64_t workers = 0;
  for (const WorkerGroup& group : groups) {
    RETURN_IF_ERROR(group.shape.Validate(geometry.params().layer_ids));
    workers += group.workers;
    if (!(group.lookups_per_s >= 0 && group.lookups_per_s <= 1e9)) {
      return wrong("a rate of ", group.lookups_per_s, " lookups/s is not between 0 and 1e9");
    }
    if (!(group.wire_share >= 0 && group.wire_share <= 1)) {
      return wrong("--wire-share ", group.wire_share, " is not between 0 and 1");
    }
  }
  if (workers == 0) return wrong("--workers 0: nobody asks");
  if (workers * servers() > kMaxPeers) {
    return wrong(workers, " workers and ", servers(), " servers are more than ", kMaxPeers,
                 " pairs, each of which takes a kilobyte");
  }
  const auto within = [&](const char* flag, double value, double least, double most) {
    if (value >= least && value <= most) return absl::OkStatus();
    return wrong(flag, " ", value, " is not between ", least, " and ", most);
  };
  RETURN_IF_ERROR(within("--cpu-quota", cpu_quota, 0, cores));
  RETURN_IF_ERROR(within("--quota-period-ms", quota_period_s * 1e3, 1, 1000));
  RETURN_IF_ERROR(within("--quota-carry-ms", quota_carry_s * 1e3, 0, 1000));
  RETURN_IF_ERROR(within("--wake-us", wake_us, 0, 1e6));
  RETURN_IF_ERROR(within("--service-variation", service_variation, 0, 10));
  RETURN_IF_ERROR(within("--hedge-share", hedge.share, 0, 1));
  RETURN_IF_ERROR(within("--timeout-ms", timeout_s * 1e3, 1, 600'000));
  RETURN_IF_ERROR(within("--warm-up-s", warm_up_s, 0, 3600));
  RETURN_IF_ERROR(within("--seconds", seconds, 0.001, 3600));
  RETURN_IF_ERROR(within("--slice-ms", slice_s * 1e3, 0, 1e6));
  if (slice_s > 0) RETURN_IF_ERROR(within("--slice-ms", slice_s * 1e3, 1, 1e6));
  if (lost.has_value()) {
    RETURN_IF_ERROR(within("--lose-at-s", lost->at_s, 0, seconds));
    if (lost->server >= servers()) {
      return wrong("--lose-server ", lost->server, ": there are ", servers(), ", from 0 on");
    }
  }
  if (update.has_value()) {
    RETURN_IF_ERROR(within("--update-at-s", update->at_s, 0, seconds));
    RETURN_IF_ERROR(within("--restart-s", update->restart_s, 0.001, 3600));
  }
  return absl::OkStatus();
}

std::vector<LookupPool> DrawPools(const Geometry& geometry, const WorkerGroup& group,
                                  uint32_t shards, std::mt19937_64& random) {
  const size_t rows = group.shape.tokens * geometry.columns();
  const size_t lookups = std::clamp<size_t>(kRowsDrawn / rows, 4, 256);
  std::vector<LookupPool> pools;
  for (const LayerGeometry& layer : geometry.layers()) {
    pools.emplace_back(layer, group.shape.tokens, group.WireShare(), shards, lookups, random);
  }
  return pools;
}

absl::StatusOr<Capacity> CapacityOf(const Geometry& geometry, const Scenario& scenario) {
  RETURN_IF_ERROR(scenario.Validate(geometry));
  std::mt19937_64 random(scenario.seed);
  const WorkerGroup& group = scenario.groups[0];
  const MeanLookup mean = MeanOf(DrawPools(geometry, group, scenario.shards, random), scenario);
  const double cores = scenario.cpu_quota > 0 ? scenario.cpu_quota : scenario.cores;
  const auto link_s = [&](double rows) {
    return scenario.network.Seconds(rows * scenario.row_bytes);
  };
  const double client_s = scenario.costs.ClientSeconds(mean.parts, mean.rows / group.WireShare());
  const std::pair<double, const char*> bounds[] = {
      {scenario.replicas * cores / mean.busiest_cpu_s, "server CPU"},
      {scenario.replicas / link_s(mean.busiest_rows), "server link"},
      {group.workers / client_s, "client CPU"},
      {group.workers / link_s(mean.rows), "client link"}};
  const auto& [rate, bound] = *std::min_element(std::begin(bounds), std::end(bounds));
  return Capacity{rate, bound};
}

}  // namespace engram::sizing

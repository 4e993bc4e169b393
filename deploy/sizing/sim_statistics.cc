#include "deploy/sizing/sim_statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace engram::sizing {

SimStatistics::SimStatistics(const SimWorld& world) : world_(world) {
  const Scenario& scenario = world.scenario;
  if (scenario.slice_s == 0) return;
  slices_.resize(static_cast<size_t>(std::ceil(scenario.seconds / scenario.slice_s)));
}

void SimStatistics::OnBegun(const SimLookup& lookup) { offered_ += lookup.measured ? 1 : 0; }

void SimStatistics::OnIncast(Nanos wait) {
  if (!world_.Measured()) return;
  result.incast.Add(wait);
  const double bytes_per_s = 1 / world_.scenario.network.Seconds(1);
  result.max_incast_bytes = std::max(result.max_incast_bytes, Seconds(wait) * bytes_per_s);
}

void SimStatistics::OnFinished(const SimLookup& lookup, bool ok) {
  if (ok && world_.Measured()) ++done_;
  if (!lookup.measured) return;
  const Nanos took = world_.now - lookup.begun;
  if (ok) {
    result.latency.Add(took);
  } else {
    ++result.failed;
  }
  if (slices_.empty()) return;
  const auto number =
      static_cast<size_t>(Seconds(lookup.begun - world_.begin) / world_.scenario.slice_s);
  Slice& slice = slices_[std::min(number, slices_.size() - 1)];
  ++(ok ? slice.done : slice.failed);
  if (ok) slice.latency.Add(took);
}

SimulationResult SimStatistics::Report(const std::vector<SimServer>& servers) {
  const Scenario& scenario = world_.scenario;
  result.offered_per_s = static_cast<double>(offered_) / scenario.seconds;
  result.done_per_s = static_cast<double>(done_) / scenario.seconds;
  const double cores = scenario.cpu_quota > 0 ? scenario.cpu_quota : scenario.cores;
  for (const SimServer& server : servers) {
    const double utilisation = Seconds(server.cpu_used) / (scenario.seconds * cores);
    result.mean_utilisation += utilisation / static_cast<double>(servers.size());
    result.max_utilisation = std::max(result.max_utilisation, utilisation);
  }
  for (size_t i = 0; i < slices_.size(); ++i) {
    result.timeline.push_back({static_cast<double>(i) * scenario.slice_s, slices_[i].done,
                               slices_[i].failed,
                               static_cast<double>(slices_[i].latency.Percentile(0.99)) * 1e-3});
  }
  result.events = world_.events.made();
  return std::move(result);
}

}  // namespace engram::sizing

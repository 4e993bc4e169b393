// A fleet in discrete events: workers that ask, servers with cores, quotas and queues, the links of
// both, the client's rules of picking and hedging, and what befalls servers.
#ifndef ENGRAM_DEPLOY_SIZING_SIMULATION_H_
#define ENGRAM_DEPLOY_SIZING_SIMULATION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/sizing/latency_histogram.h"
#include "deploy/sizing/scenario.h"
#include "proto/geometry.h"

namespace engram::sizing {

struct TimeSlice {
  double at_s = 0;  // its begin
  uint64_t done = 0;
  uint64_t failed = 0;
  double p99_us = 0;
};

// Of lookups that began in the measured time, if it is not said otherwise.
struct SimulationResult {
  double offered_per_s = 0;
  double done_per_s = 0;          // rows all there within the measured time
  uint64_t failed = 0;            // timed out, or nobody left to ask
  LatencyHistogram latency;       // of those that did not fail
  LatencyHistogram server_queue;  // what requests wait for a core
  LatencyHistogram incast;        // what pieces wait for the client's link behind others
  uint64_t requests = 0;          // since the begin, as all below
  uint64_t hedges = 0;
  uint64_t hedges_won = 0;
  uint64_t retries = 0;
  uint64_t ejections = 0;
  double mean_utilisation = 0;  // of servers' cores, or quotas, in the measured time
  double max_utilisation = 0;
  double max_incast_bytes = 0;  // that waited for a client's link at once
  std::vector<TimeSlice> timeline;
  uint64_t events = 0;
};

// The same scenario gives the same result: all chance is drawn from its seed.
// InvalidArgument: as Scenario::Validate.
absl::StatusOr<SimulationResult> Simulate(const Geometry& geometry, const Scenario& scenario);

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIMULATION_H_

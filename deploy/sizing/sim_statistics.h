// What is counted while a simulation runs, and the result made of it.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_STATISTICS_H_
#define ENGRAM_DEPLOY_SIZING_SIM_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "deploy/sizing/latency_histogram.h"
#include "deploy/sizing/sim_server.h"
#include "deploy/sizing/sim_state.h"
#include "deploy/sizing/sim_world.h"
#include "deploy/sizing/simulation.h"

namespace engram::sizing {

class SimStatistics {
 public:
  // `world` must outlive it.
  explicit SimStatistics(const SimWorld& world);

  // Its sums: whoever does something adds to them. Rates, shares and the timeline are Report's.
  SimulationResult result;

  void OnBegun(const SimLookup& lookup);
  // So long a piece that has come now waits for the client's link.
  void OnIncast(Nanos wait);
  // Finished now. `ok`: all its rows are there.
  void OnFinished(const SimLookup& lookup, bool ok);

  // Once, at the end.
  SimulationResult Report(const std::vector<SimServer>& servers);

 private:
  struct Slice {
    uint64_t done = 0;
    uint64_t failed = 0;
    LatencyHistogram latency;
  };

  const SimWorld& world_;
  std::vector<Slice> slices_;
  uint64_t offered_ = 0, done_ = 0;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_STATISTICS_H_

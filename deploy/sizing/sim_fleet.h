// The servers of a simulation: what they are asked waits for a core, is served in pieces, and
// leaves by their links.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_FLEET_H_
#define ENGRAM_DEPLOY_SIZING_SIM_FLEET_H_

#include <cstdint>
#include <vector>

#include "deploy/sizing/sim_dispatch.h"
#include "deploy/sizing/sim_server.h"
#include "deploy/sizing/sim_statistics.h"
#include "deploy/sizing/sim_world.h"

namespace engram::sizing {

class SimFleet {
 public:
  // All of these must outlive it.
  SimFleet(SimWorld& world, SimStatistics& statistics, SimDispatch& dispatch);

  // An attempt's request has come to its server.
  void OnRequest(uint32_t attempt);
  // So many of its rows are ready to leave.
  void OnServed(uint32_t attempt, uint32_t rows);
  // It is gone, with all that it was asked.
  void Lose(uint32_t server);

  const std::vector<SimServer>& servers() const { return servers_; }

 private:
  // Gives idle cores what waits.
  void Serve(uint32_t number);
  uint32_t PieceRows(uint64_t bytes) const;
  // A factor of CPU time, lognormal, of mean 1.
  double Variation();

  SimWorld& world_;
  SimStatistics& statistics_;
  SimDispatch& dispatch_;
  const uint32_t piece_rows_, piece_rows_beside_decode_;
  std::vector<SimServer> servers_;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_FLEET_H_

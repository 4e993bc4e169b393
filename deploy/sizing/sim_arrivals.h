// When a simulation's workers begin lookups, and for which rows.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_ARRIVALS_H_
#define ENGRAM_DEPLOY_SIZING_SIM_ARRIVALS_H_

#include <cstdint>
#include <vector>

#include "deploy/sizing/lookup_pool.h"
#include "deploy/sizing/scenario.h"
#include "deploy/sizing/sim_dispatch.h"
#include "deploy/sizing/sim_world.h"
#include "proto/geometry.h"

namespace engram::sizing {

class SimArrivals {
 public:
  // Draws each group's lookups, and when each worker begins. `world` and `dispatch` must outlive
  // it.
  SimArrivals(const Geometry& geometry, SimWorld& world, SimDispatch& dispatch);

  void OnArrival(uint32_t worker);

 private:
  struct Group {
    Arrivals arrivals;
    std::vector<LookupPool> pools;  // by layer
    Nanos interval;                 // between a worker's arrivals, on average
  };
  struct Worker {
    uint32_t group = 0;
    uint32_t layer = 0;  // of the next lookup, where layers take turns
  };

  void AddGroup(const Geometry& geometry, uint32_t number);
  void Begin(uint32_t worker, const LookupPool& pool);

  SimWorld& world_;
  SimDispatch& dispatch_;
  std::vector<Group> groups_;
  std::vector<Worker> workers_;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_ARRIVALS_H_

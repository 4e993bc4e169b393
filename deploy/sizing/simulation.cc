#include "deploy/sizing/simulation.h"

#include <memory>

#include "deploy/sizing/event_queue.h"
#include "deploy/sizing/sim_arrivals.h"
#include "deploy/sizing/sim_client.h"
#include "deploy/sizing/sim_dispatch.h"
#include "deploy/sizing/sim_fleet.h"
#include "deploy/sizing/sim_statistics.h"
#include "deploy/sizing/sim_world.h"
#include "proto/base/status_macros.h"

namespace engram::sizing {
namespace {

uint32_t WorkersOf(const Scenario& scenario) {
  uint32_t workers = 0;
  for (const WorkerGroup& group : scenario.groups) workers += group.workers;
  return workers;
}

// Hands events to whom they concern, and does what befalls servers.
class Simulator {
 public:
  Simulator(const Geometry& geometry, const Scenario& scenario)
      : scenario_(scenario),
        world_(scenario),
        statistics_(world_),
        clients_(WorkersOf(scenario), scenario.shards, scenario.replicas, scenario.hedge),
        dispatch_(world_, statistics_, clients_),
        fleet_(world_, statistics_, dispatch_),
        arrivals_(geometry, world_, dispatch_) {}

  SimulationResult Run() {
    if (scenario_.lost.has_value()) {
      world_.events.Push(world_.begin + ToNanos(scenario_.lost->at_s), EventKind::kLose,
                         scenario_.lost->server);
    }
    if (scenario_.update.has_value()) {
      world_.events.Push(world_.begin + ToNanos(scenario_.update->at_s), EventKind::kDrain, 0);
    }
    while (!world_.events.empty()) {
      const Event event = world_.events.Pop();
      world_.now = event.at;
      Handle(event);
    }
    return statistics_.Report(fleet_.servers());
  }

 private:
  void Handle(const Event& event) {
    switch (event.kind()) {
      case EventKind::kArrival:
        return arrivals_.OnArrival(event.a);
      case EventKind::kRequests:
        for (const uint32_t attempt : dispatch_.FirstOf(event.a)) fleet_.OnRequest(attempt);
        return dispatch_.ForgetFirst(event.a);
      case EventKind::kRequest:
        return fleet_.OnRequest(event.a);
      case EventKind::kServed:
        return fleet_.OnServed(event.a, event.b);
      case EventKind::kAtClient:
        return dispatch_.OnAtClient(event.a, event.b);
      case EventKind::kDone:
        return dispatch_.EndAttempt(event.a, /*ok=*/true);
      case EventKind::kFailed:
        return dispatch_.EndAttempt(event.a, /*ok=*/false);
      case EventKind::kHedge:
        return dispatch_.OnHedge(event.a, event.b);
      case EventKind::kTimeout:
        return dispatch_.OnTimeout();
      case EventKind::kLose:
        return OnLose(event.a);
      case EventKind::kSilent:
        return clients_.SetUsable(event.a, false);
      case EventKind::kDrain:
        return OnDrain(event.a);
      case EventKind::kReturn:
        return SetReplica(event.a, true);
    }
  }

  void OnLose(uint32_t server) {
    if (scenario_.lost->silent) {
      world_.events.Push(world_.now + ToNanos(kSilentSeconds), EventKind::kSilent, server);
    } else {
      clients_.SetUsable(server, false);
    }
    fleet_.Lose(server);
  }

  void OnDrain(uint32_t replica) {
    SetReplica(replica, false);
    const Nanos back = world_.now + ToNanos(scenario_.update->restart_s);
    world_.events.Push(back, EventKind::kReturn, replica);
    if (replica + 1 < scenario_.replicas) {
      world_.events.Push(back, EventKind::kDrain, replica + 1);
    }
  }

  void SetReplica(uint32_t replica, bool usable) {
    for (uint32_t shard = 0; shard < scenario_.shards; ++shard) {
      clients_.SetUsable(shard * scenario_.replicas + replica, usable);
    }
  }

  const Scenario& scenario_;
  SimWorld world_;
  SimStatistics statistics_;
  SimClients clients_;
  SimDispatch dispatch_;
  // Both draw from the same source when made: servers' periods, then lookups.
  SimFleet fleet_;
  SimArrivals arrivals_;
};

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const Geometry& geometry, const Scenario& scenario) {
  RETURN_IF_ERROR(scenario.Validate(geometry));
  return std::make_unique<Simulator>(geometry, scenario)->Run();
}

}  // namespace engram::sizing

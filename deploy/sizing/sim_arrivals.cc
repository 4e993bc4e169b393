#include "deploy/sizing/sim_arrivals.h"

#include <cmath>
#include <utility>

namespace engram::sizing {
namespace {

double LookupsPerSecond(const WorkerGroup& group, size_t layers) {
  if (group.lookups_per_s > 0) return group.lookups_per_s;
  return group.workers * static_cast<double>(layers) / group.shape.step_s();
}

}  // namespace

SimArrivals::SimArrivals(const Geometry& geometry, SimWorld& world, SimDispatch& dispatch)
    : world_(world), dispatch_(dispatch) {
  for (uint32_t group = 0; group < world.scenario.groups.size(); ++group) AddGroup(geometry, group);
}

void SimArrivals::AddGroup(const Geometry& geometry, uint32_t number) {
  const WorkerGroup& group = world_.scenario.groups[number];
  std::vector<LookupPool> pools = DrawPools(geometry, group, world_.scenario.shards, world_.random);
  const size_t layers = pools.size();
  const double lookups = group.arrivals == Arrivals::kSteps ? static_cast<double>(layers) : 1;
  const Nanos interval = ToNanos(group.workers * lookups / LookupsPerSecond(group, layers));
  groups_.push_back({group.arrivals, std::move(pools), interval});
  for (uint32_t i = 0; i < group.workers; ++i) {
    const Nanos phase = static_cast<Nanos>(world_.Uniform() * static_cast<double>(interval));
    world_.events.Push(phase, EventKind::kArrival, static_cast<uint32_t>(workers_.size()));
    workers_.push_back({number, 0});
  }
}

void SimArrivals::OnArrival(uint32_t number) {
  if (world_.now >= world_.end) return;
  Worker& worker = workers_[number];
  const Group& group = groups_[worker.group];
  if (group.arrivals == Arrivals::kSteps) {
    for (const LookupPool& pool : group.pools) Begin(number, pool);
  } else {
    Begin(number, group.pools[worker.layer]);
    worker.layer = (worker.layer + 1) % static_cast<uint32_t>(group.pools.size());
  }
  const double apart = group.arrivals == Arrivals::kPoisson ? -std::log(1 - world_.Uniform()) : 1;
  world_.events.Push(world_.now + std::llround(apart * static_cast<double>(group.interval)),
                     EventKind::kArrival, number);
}

void SimArrivals::Begin(uint32_t worker, const LookupPool& pool) {
  dispatch_.Begin(worker, pool[world_.random() % pool.size()]);
}

}  // namespace engram::sizing

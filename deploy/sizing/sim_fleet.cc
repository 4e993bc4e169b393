#include "deploy/sizing/sim_fleet.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace engram::sizing {

SimFleet::SimFleet(SimWorld& world, SimStatistics& statistics, SimDispatch& dispatch)
    : world_(world),
      statistics_(statistics),
      dispatch_(dispatch),
      piece_rows_(PieceRows(kPieceBytes)),
      piece_rows_beside_decode_(PieceRows(kPieceBytesBesideDecode)) {
  const Scenario& scenario = world.scenario;
  const Nanos period = ToNanos(scenario.quota_period_s);
  for (uint32_t i = 0; i < scenario.servers(); ++i) {
    const Nanos phase = static_cast<Nanos>(world.random() % static_cast<uint64_t>(period));
    servers_.emplace_back(scenario.cores, CpuQuota(scenario.cpu_quota, period, phase,
                                                   ToNanos(scenario.quota_carry_s)));
  }
}

void SimFleet::OnRequest(uint32_t id) {
  SimAttempt& attempt = dispatch_.attempt(id);
  SimServer& server = servers_[attempt.server];
  if (server.lost) return dispatch_.Lose(id);
  attempt.at_server = world_.now;
  attempt.wakes = server.has_idle_core();
  server.PushNew(id, attempt.prefill);
  Serve(attempt.server);
}

void SimFleet::Serve(uint32_t number) {
  SimServer& server = servers_[number];
  while (server.has_idle_core()) {
    const std::optional<uint32_t> id = server.Pop();
    if (!id.has_value()) return;
    SimAttempt& attempt = dispatch_.attempt(*id);
    if (!dispatch_.Wants(attempt)) {
      dispatch_.Drop(*id);
      continue;
    }
    const uint32_t most =
        attempt.prefill && server.has_decode() ? piece_rows_beside_decode_ : piece_rows_;
    const uint32_t rows = std::min(attempt.rows_to_serve, most);
    double cost = world_.scenario.costs.ServerSeconds(attempt.begun ? 0 : 1, rows);
    if (!attempt.begun && attempt.wakes) cost += world_.scenario.wake_us * 1e-6;
    const Nanos work = ToNanos(cost * Variation());
    if (world_.Measured()) {
      if (!attempt.begun) statistics_.result.server_queue.Add(world_.now - attempt.at_server);
      server.cpu_used += work;
    }
    attempt.begun = true;
    server.TakeCore();
    world_.events.Push(server.quota.Finish(world_.now, work), EventKind::kServed, *id, rows);
  }
}

void SimFleet::OnServed(uint32_t id, uint32_t rows) {
  SimAttempt& attempt = dispatch_.attempt(id);
  const uint32_t number = attempt.server;
  SimServer& server = servers_[number];
  server.FreeCore();
  if (server.lost) return dispatch_.Lose(id);
  attempt.rows_to_serve -= rows;
  server.link_free = std::max(server.link_free, world_.now) + world_.LinkTime(world_.BytesOf(rows));
  world_.events.Push(server.link_free + world_.half_rtt, EventKind::kAtClient, id, rows);
  if (attempt.rows_to_serve > 0) server.PushRest(id, attempt.prefill);
  Serve(number);
}

void SimFleet::Lose(uint32_t number) {
  servers_[number].lost = true;
  while (const std::optional<uint32_t> id = servers_[number].Pop()) dispatch_.Lose(*id);
}

uint32_t SimFleet::PieceRows(uint64_t bytes) const {
  return static_cast<uint32_t>(std::max<uint64_t>(1, bytes / world_.scenario.row_bytes));
}

// Box and Muller, 1958.
double SimFleet::Variation() {
  const double variation = world_.scenario.service_variation;
  if (variation == 0) return 1;
  const double variance = std::log1p(variation * variation);
  const double radius = std::sqrt(-2 * std::log(1 - world_.Uniform()));
  const double normal = radius * std::cos(2 * M_PI * world_.Uniform());
  return std::exp(std::sqrt(variance) * normal - variance / 2);
}

}  // namespace engram::sizing

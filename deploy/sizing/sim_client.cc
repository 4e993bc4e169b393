#include "deploy/sizing/sim_client.h"

#include <algorithm>

namespace engram::sizing {
namespace {

absl::Time TimeOf(Nanos now) { return absl::UnixEpoch() + absl::Nanoseconds(now); }

}  // namespace

SimClients::SimClients(uint32_t clients, uint32_t shards, uint32_t replicas,
                       const HedgeRules& rules)
    : replicas_(replicas),
      rules_(rules),
      usable_(size_t{shards} * replicas, true),
      peers_(clients * usable_.size()),
      times_(replicas > 1 ? peers_.size() : 0),
      budgets_(clients, SecondRequestBudget(rules.share)),
      turns_(clients) {}

std::optional<uint32_t> SimClients::Pick(uint32_t client, uint32_t shard, uint32_t tried) {
  std::optional<uint32_t> best;
  bool best_healthy = false;
  uint32_t best_rows = 0;
  const uint32_t turn = ++turns_[client];
  for (uint32_t i = 0; i < replicas_; ++i) {
    const uint32_t replica = (turn + i) % replicas_;
    const uint32_t server = shard * replicas_ + replica;
    if ((tried >> replica & 1) != 0 || !usable_[server]) continue;
    const Peer& peer = PeerOf(client, server);
    const bool healthy = peer.health.healthy();
    if (best.has_value() && best_healthy && !healthy) continue;
    if (!best.has_value() || (healthy && !best_healthy) || peer.rows < best_rows) {
      best = server;
      best_healthy = healthy;
      best_rows = peer.rows;
    }
  }
  return best;
}

std::optional<uint32_t> SimClients::PickTrial(uint32_t client, uint32_t shard, Nanos now) {
  for (uint32_t server = shard * replicas_; server < (shard + 1) * replicas_; ++server) {
    const Peer& peer = PeerOf(client, server);
    if (peer.health.healthy() || !usable_[server] || peer.rows != 0) continue;
    if (peer.health.state(TimeOf(now)) == ServerHealth::State::kProbation) return server;
  }
  return std::nullopt;
}

std::optional<Nanos> SimClients::LateAfter(uint32_t client, uint32_t shard, uint32_t rows,
                                           std::optional<uint32_t> but) {
  absl::Duration late = absl::InfiniteDuration();
  for (uint32_t server = shard * replicas_; server < (shard + 1) * replicas_; ++server) {
    if (server == but || !healthy(client, server)) continue;
    late = std::min(late, times_[Index(client, server)].LateAfter(rows));
  }
  if (late == absl::InfiniteDuration()) return std::nullopt;
  return std::max(absl::ToInt64Nanoseconds(late), rules_.after_least);
}

Nanos SimClients::HedgeAfter(uint32_t client, uint32_t shard, uint32_t rows, Nanos time_left) {
  if (const std::optional<Nanos> late = LateAfter(client, shard, rows, std::nullopt)) return *late;
  absl::Duration after = absl::InfiniteDuration();
  for (uint32_t server = shard * replicas_; server < (shard + 1) * replicas_; ++server) {
    after = std::min(after, times_[Index(client, server)].LateAfter(rows));
  }
  if (after == absl::InfiniteDuration()) return std::max(time_left / 4, rules_.after_least);
  return std::max(absl::ToInt64Nanoseconds(after), rules_.after_least);
}

bool SimClients::Strike(uint32_t client, uint32_t server, Nanos now) {
  return PeerOf(client, server).health.OnStrike(TimeOf(now));
}

bool SimClients::OnAnswer(uint32_t client, uint32_t server, uint32_t shard, uint32_t rows,
                          Nanos took, bool won, bool trial, Nanos now) {
  PeerOf(client, server).answered_at = now;
  if (replicas_ < 2 || (!won && !trial)) return false;
  bool put_aside = false;
  // By the others' measure: a server that is always slow is no less late for that.
  const std::optional<Nanos> late = LateAfter(client, shard, rows, server);
  if (late.has_value() && took > *late) {
    put_aside = Strike(client, server, now);
  } else {
    PeerOf(client, server).health.OnSuccess(TimeOf(now));
  }
  if (won) times_[Index(client, server)].OnAnswer(rows, absl::Nanoseconds(took));
  return put_aside;
}

}  // namespace engram::sizing

#include "deploy/sizing/sim_dispatch.h"

#include <algorithm>
#include <optional>

namespace engram::sizing {

SimDispatch::SimDispatch(SimWorld& world, SimStatistics& statistics, SimClients& clients)
    : world_(world), statistics_(statistics), clients_(clients) {
  for (const WorkerGroup& group : world.scenario.groups) {
    SimWorker worker;
    worker.prefill = group.shape.prefill;
    worker.wire_share = group.WireShare();
    workers_.insert(workers_.end(), group.workers, worker);
  }
}

void SimDispatch::Begin(uint32_t number, const DrawnLookup& drawn) {
  SimWorker& worker = workers_[number];
  const uint32_t slot = lookups_.Take();
  SimLookup& lookup = lookups_[slot];
  lookup.worker = number;
  lookup.users = 2;  // itself, and the event below
  lookup.finished = false;
  lookup.measured = world_.now >= world_.begin;
  lookup.begun = world_.now;
  lookup.parts.clear();
  for (const DrawnPart& part : drawn) {
    lookup.parts.emplace_back();
    lookup.parts.back().shard = part.shard;
    lookup.parts.back().rows = part.rows;
  }
  lookup.parts_left = static_cast<uint32_t>(drawn.size());
  statistics_.OnBegun(lookup);
  worker.open.push_back(slot);
  oldest_.push_back({world_.now + ToNanos(world_.scenario.timeout_s), slot, lookup.serial});
  if (oldest_.size() == 1) world_.events.Push(oldest_.front().at, EventKind::kTimeout, 0);
  const Nanos leaves = world_.now + ToNanos(world_.scenario.costs.lookup_us * 1e-6);
  uint64_t rows = 0;
  Nanos hedge_at = INT64_MAX;
  for (uint32_t part = 0; part < lookup.parts.size() && !lookup.finished; ++part) {
    rows += lookup.parts[part].rows;
    AskFirst(slot, part, leaves);
    hedge_at = std::min(hedge_at, lookup.parts[part].due);
  }
  const Nanos out = world_.LinkTime(rows * kIdBytes);
  worker.link_out_free = std::max(worker.link_out_free, leaves) + out;
  if (lookup.parts.empty()) FinishLookup(slot, /*ok=*/true);
  world_.events.Push(worker.link_out_free + world_.half_rtt, EventKind::kRequests, slot);
  if (clients_.hedges() && !lookup.finished) {
    world_.events.Push(hedge_at, EventKind::kHedge, slot, lookup.serial);
  }
}

void SimDispatch::AskFirst(uint32_t slot, uint32_t number, Nanos leaves) {
  SimLookup& lookup = lookups_[slot];
  SimPart& part = lookup.parts[number];
  const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, 0);
  if (!server.has_value()) return FinishLookup(slot, /*ok=*/false);
  clients_.budget(lookup.worker).OnRequest();
  lookup.first.push_back(Ask(slot, number, *server, AttemptKind::kFirst, leaves));
  if (!clients_.hedges()) return;
  part.after = clients_.HedgeAfter(lookup.worker, part.shard, part.rows,
                                   lookup.begun + ToNanos(world_.scenario.timeout_s) - leaves);
  part.due = leaves + part.after;
  const std::optional<uint32_t> trial = clients_.PickTrial(lookup.worker, part.shard, world_.now);
  if (!trial.has_value() || *trial == *server) return;
  lookup.first.push_back(Ask(slot, number, *trial, AttemptKind::kTrial, leaves));
}

uint32_t SimDispatch::Ask(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind,
                          Nanos sent) {
  SimLookup& lookup = lookups_[slot];
  SimPart& part = lookup.parts[number];
  const uint32_t id = attempts_.Take();
  SimAttempt& attempt = attempts_[id];
  attempt = SimAttempt();
  attempt.lookup = slot;
  attempt.part = number;
  attempt.server = server;
  attempt.rows_to_serve = attempt.rows_to_come = part.rows;
  attempt.kind = kind;
  attempt.prefill = workers_[lookup.worker].prefill;
  attempt.sent = sent;
  clients_.AddRows(lookup.worker, server, part.rows);
  part.tried |= 1u << (server % world_.scenario.replicas);
  ++part.attempts;
  ++lookup.users;
  part.latest = id;
  part.server = server;
  ++statistics_.result.requests;
  return id;
}

void SimDispatch::AskNow(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind) {
  world_.events.Push(world_.now + world_.half_rtt, EventKind::kRequest,
                     Ask(slot, number, server, kind, world_.now));
}

void SimDispatch::ForgetFirst(uint32_t slot) {
  lookups_[slot].first.clear();
  Release(slot);
}

void SimDispatch::OnAtClient(uint32_t id, uint32_t rows) {
  SimAttempt& attempt = attempts_[id];
  const uint32_t number = lookups_[attempt.lookup].worker;
  SimWorker& worker = workers_[number];
  attempt.rows_to_come -= rows;
  clients_.TakeRows(number, attempt.server, rows);
  // Its last packet is here; what came from others meanwhile went first.
  const Nanos through =
      std::max(world_.now, worker.link_in_free + world_.LinkTime(world_.BytesOf(rows)));
  worker.link_in_free = through;
  statistics_.OnIncast(through - world_.now);
  const bool last = attempt.rows_to_come == 0;
  worker.cpu_free =
      std::max(worker.cpu_free, through) +
      ToNanos(world_.scenario.costs.ClientSeconds(last ? 1 : 0, rows / worker.wire_share));
  if (last) world_.events.Push(worker.cpu_free, EventKind::kDone, id);
}

void SimDispatch::EndAttempt(uint32_t id, bool ok) {
  const SimAttempt attempt = attempts_[id];
  const uint32_t slot = attempt.lookup;
  SimLookup& lookup = lookups_[slot];
  SimPart& part = lookup.parts[attempt.part];
  const uint32_t client = lookup.worker;
  if (!ok) clients_.TakeRows(client, attempt.server, attempt.rows_to_come);
  --part.attempts;
  const bool won = ok && !part.done;
  bool put_aside = false;
  if (ok) {
    put_aside =
        clients_.OnAnswer(client, attempt.server, part.shard, part.rows, world_.now - attempt.sent,
                          won, attempt.kind == AttemptKind::kTrial, world_.now);
    if (won && attempt.kind == AttemptKind::kHedge) StrikeOthers(part, attempt.server, client);
  } else {
    put_aside = clients_.Strike(client, attempt.server, world_.now);
  }
  if (put_aside) OnPutAside(client, attempt.server);
  attempts_.Release(id);
  if (!part.done && !lookup.finished) {
    if (won) {
      FinishPart(slot, part);
    } else if (!Retry(slot, attempt.part) && part.attempts == 0) {
      FinishLookup(slot, /*ok=*/false);
    }
  }
  Release(slot);
}

void SimDispatch::StrikeOthers(const SimPart& part, uint32_t winner, uint32_t client) {
  ++statistics_.result.hedges_won;
  for (uint32_t replica = 0; replica < world_.scenario.replicas; ++replica) {
    const uint32_t server = part.shard * world_.scenario.replicas + replica;
    if ((part.tried >> replica & 1) == 0 || server == winner) continue;
    if (clients_.Strike(client, server, world_.now)) OnPutAside(client, server);
  }
}

bool SimDispatch::Retry(uint32_t slot, uint32_t number) {
  SimLookup& lookup = lookups_[slot];
  const SimPart& part = lookup.parts[number];
  const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, part.tried);
  if (!server.has_value()) return false;
  ++statistics_.result.retries;
  clients_.budget(lookup.worker).OnRequest();
  AskNow(slot, number, *server, AttemptKind::kFirst);
  return true;
}

void SimDispatch::FinishPart(uint32_t slot, SimPart& part) {
  SimLookup& lookup = lookups_[slot];
  part.done = true;
  part.done_at = world_.now;
  if (--lookup.parts_left == 0) FinishLookup(slot, /*ok=*/true);
}

void SimDispatch::FinishLookup(uint32_t slot, bool ok) {
  SimLookup& lookup = lookups_[slot];
  if (lookup.finished) return;
  lookup.finished = true;
  lookup.finished_at = world_.now;
  std::vector<uint32_t>& open = workers_[lookup.worker].open;
  open.erase(std::find(open.begin(), open.end(), slot));
  statistics_.OnFinished(lookup, ok);
  Release(slot);
}

void SimDispatch::OnHedge(uint32_t slot, uint32_t serial) {
  SimLookup& lookup = lookups_[slot];
  if (lookup.serial != serial || lookup.finished) return;
  Nanos next = INT64_MAX;
  for (uint32_t number = 0; number < lookup.parts.size(); ++number) {
    SimPart& part = lookup.parts[number];
    if (part.done || part.hedged || part.attempts != 1) continue;
    if (part.due <= world_.now) {
      if (clients_.budget(lookup.worker).Spend()) {
        Hedge(slot, number, /*also_aside=*/true);
        continue;
      }
      StrikeIfSilent(lookup.worker, part);
      part.after = std::max<Nanos>(2 * part.after, 1'000'000);
      part.due = world_.now + part.after;
    }
    next = std::min(next, part.due);
  }
  if (next != INT64_MAX) world_.events.Push(next, EventKind::kHedge, slot, serial);
}

void SimDispatch::Hedge(uint32_t slot, uint32_t number, bool also_aside) {
  SimLookup& lookup = lookups_[slot];
  SimPart& part = lookup.parts[number];
  const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, part.tried);
  if (!server.has_value()) return;
  if (!also_aside && !clients_.healthy(lookup.worker, *server)) return;
  part.hedged = true;
  ++statistics_.result.hedges;
  AskNow(slot, number, *server, AttemptKind::kHedge);
}

void SimDispatch::StrikeIfSilent(uint32_t client, const SimPart& part) {
  const SimAttempt& attempt = attempts_[part.latest];
  if (attempt.rows_to_come != part.rows) return;
  if (clients_.answered_at(client, part.server) >= attempt.sent) return;
  if (clients_.Strike(client, part.server, world_.now)) OnPutAside(client, part.server);
}

void SimDispatch::OnPutAside(uint32_t client, uint32_t server) {
  ++statistics_.result.ejections;
  for (const uint32_t slot : workers_[client].open) {
    SimLookup& lookup = lookups_[slot];
    for (uint32_t number = 0; number < lookup.parts.size(); ++number) {
      SimPart& part = lookup.parts[number];
      if (part.done || part.hedged || part.attempts != 1 || part.server != server) continue;
      Hedge(slot, number, /*also_aside=*/false);
    }
  }
}

void SimDispatch::OnTimeout() {
  while (!oldest_.empty() && oldest_.front().at <= world_.now) {
    const Deadline deadline = oldest_.front();
    oldest_.pop_front();
    if (lookups_[deadline.lookup].serial == deadline.serial) {
      FinishLookup(deadline.lookup, /*ok=*/false);
    }
  }
  while (!oldest_.empty() && IsOver(oldest_.front())) oldest_.pop_front();
  if (!oldest_.empty()) world_.events.Push(oldest_.front().at, EventKind::kTimeout, 0);
}

bool SimDispatch::Wants(const SimAttempt& attempt) {
  if (attempt.kind == AttemptKind::kTrial) return true;
  const SimLookup& lookup = lookups_[attempt.lookup];
  const SimPart& part = lookup.parts[attempt.part];
  if (part.done && part.done_at + world_.half_rtt <= world_.now) return false;
  return !lookup.finished || lookup.finished_at + world_.half_rtt > world_.now;
}

void SimDispatch::Drop(uint32_t id) {
  const SimAttempt& attempt = attempts_[id];
  const uint32_t slot = attempt.lookup;
  clients_.TakeRows(lookups_[slot].worker, attempt.server, attempt.rows_to_come);
  --lookups_[slot].parts[attempt.part].attempts;
  attempts_.Release(id);
  Release(slot);
}

void SimDispatch::Lose(uint32_t id) {
  if (!world_.scenario.lost->silent) {
    world_.events.Push(world_.now + world_.half_rtt, EventKind::kFailed, id);
    return;
  }
  Release(attempts_[id].lookup);  // its own slot stays: the client still refers to it
}

void SimDispatch::Release(uint32_t slot) {
  SimLookup& lookup = lookups_[slot];
  if (--lookup.users > 0) return;
  ++lookup.serial;
  lookups_.Release(slot);
}

bool SimDispatch::IsOver(const Deadline& deadline) {
  const SimLookup& lookup = lookups_[deadline.lookup];
  return lookup.serial != deadline.serial || lookup.finished;
}

}  // namespace engram::sizing

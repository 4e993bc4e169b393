#include "deploy/sizing/simulation.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <random>
#include <utility>

#include "deploy/sizing/event_queue.h"
#include "deploy/sizing/lookup_pool.h"
#include "deploy/sizing/sim_server.h"
#include "deploy/sizing/sim_state.h"
#include "proto/base/status_macros.h"

namespace engram::sizing {
namespace {

Nanos ToNanos(double seconds) { return static_cast<Nanos>(std::llround(seconds * 1e9)); }

double Seconds(Nanos ns) { return static_cast<double>(ns) * 1e-9; }

double LookupsPerSecond(const WorkerGroup& group, size_t layers) {
  if (group.lookups_per_s > 0) return group.lookups_per_s;
  return group.workers * static_cast<double>(layers) / group.shape.step_s();
}

class Simulator {
 public:
  Simulator(const Geometry& geometry, const Scenario& scenario)
      : geometry_(geometry),
        scenario_(scenario),
        costs_(scenario.costs),
        random_(scenario.seed),
        half_rtt_(ToNanos(scenario.network.rtt_us * 0.5e-6)),
        begin_(ToNanos(scenario.warm_up_s)),
        end_(begin_ + ToNanos(scenario.seconds)),
        piece_rows_(PieceRows(kPieceBytes)),
        piece_rows_beside_decode_(PieceRows(kPieceBytesBesideDecode)),
        clients_(WorkersOf(scenario), scenario.shards, scenario.replicas, scenario.hedge) {
    const Nanos period = ToNanos(scenario.quota_period_s);
    for (uint32_t i = 0; i < scenario.servers(); ++i) {
      const Nanos phase = static_cast<Nanos>(random_() % static_cast<uint64_t>(period));
      servers_.emplace_back(scenario.cores, CpuQuota(scenario.cpu_quota, period, phase,
                                                     ToNanos(scenario.quota_carry_s)));
    }
    for (uint32_t group = 0; group < scenario.groups.size(); ++group) AddGroup(group);
    if (scenario.slice_s > 0) {
      slices_.resize(static_cast<size_t>(std::ceil(scenario.seconds / scenario.slice_s)));
    }
  }

  SimulationResult Run() {
    if (scenario_.lost.has_value()) {
      events_.Push(begin_ + ToNanos(scenario_.lost->at_s), EventKind::kLose,
                   scenario_.lost->server);
    }
    if (scenario_.update.has_value()) {
      events_.Push(begin_ + ToNanos(scenario_.update->at_s), EventKind::kDrain, 0);
    }
    while (!events_.empty()) {
      const Event event = events_.Pop();
      now_ = event.at;
      Handle(event);
    }
    return Report();
  }

  static uint32_t WorkersOf(const Scenario& scenario) {
    uint32_t workers = 0;
    for (const WorkerGroup& group : scenario.groups) workers += group.workers;
    return workers;
  }

 private:
  struct Slice {
    uint64_t done = 0;
    uint64_t failed = 0;
    LatencyHistogram latency;
  };

  void Handle(const Event& event) {
    switch (event.kind()) {
      case EventKind::kArrival:
        return OnArrival(event.a);
      case EventKind::kRequests:
        for (const uint32_t attempt : lookups_[event.a].first) OnRequest(attempt);
        lookups_[event.a].first.clear();
        return Release(event.a);
      case EventKind::kRequest:
        return OnRequest(event.a);
      case EventKind::kServed:
        return OnServed(event.a, event.b);
      case EventKind::kAtClient:
        return OnAtClient(event.a, event.b);
      case EventKind::kDone:
        return EndAttempt(event.a, /*ok=*/true);
      case EventKind::kFailed:
        return EndAttempt(event.a, /*ok=*/false);
      case EventKind::kHedge:
        return OnHedge(event.a, event.b);
      case EventKind::kTimeout:
        return OnTimeout();
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

  // ---------------------------------------------------------------- workers

  void AddGroup(uint32_t number) {
    const WorkerGroup& group = scenario_.groups[number];
    wire_shares_.push_back(group.WireShare());
    pools_.push_back(DrawPools(geometry_, group, scenario_.shards, random_));
    const double lookups =
        group.arrivals == Arrivals::kSteps ? static_cast<double>(geometry_.layers().size()) : 1;
    intervals_.push_back(
        ToNanos(group.workers * lookups / LookupsPerSecond(group, geometry_.layers().size())));
    for (uint32_t i = 0; i < group.workers; ++i) {
      workers_.emplace_back();
      workers_.back().group = number;
      const Nanos phase = static_cast<Nanos>(Uniform() * static_cast<double>(intervals_.back()));
      events_.Push(phase, EventKind::kArrival, static_cast<uint32_t>(workers_.size() - 1));
    }
  }

  void OnArrival(uint32_t number) {
    if (now_ >= end_) return;
    SimWorker& worker = workers_[number];
    const Arrivals arrivals = scenario_.groups[worker.group].arrivals;
    const auto layers = static_cast<uint32_t>(geometry_.layers().size());
    if (arrivals == Arrivals::kSteps) {
      for (uint32_t layer = 0; layer < layers; ++layer) Begin(number, layer);
    } else {
      Begin(number, worker.layer);
      worker.layer = (worker.layer + 1) % layers;
    }
    const double apart = arrivals == Arrivals::kPoisson ? -std::log(1 - Uniform()) : 1;
    events_.Push(now_ + std::llround(apart * static_cast<double>(intervals_[worker.group])),
                 EventKind::kArrival, number);
  }

  void Begin(uint32_t number, uint32_t layer) {
    SimWorker& worker = workers_[number];
    const LookupPool& pool = pools_[worker.group][layer];
    const DrawnLookup& drawn = pool[random_() % pool.size()];
    const uint32_t slot = lookups_.Take();
    SimLookup& lookup = lookups_[slot];
    lookup.worker = number;
    lookup.users = 2;  // itself, and the event below
    lookup.finished = false;
    lookup.measured = now_ >= begin_;
    lookup.begun = now_;
    lookup.parts.clear();
    for (const DrawnPart& part : drawn) {
      lookup.parts.emplace_back();
      lookup.parts.back().shard = part.shard;
      lookup.parts.back().rows = part.rows;
    }
    lookup.parts_left = static_cast<uint32_t>(drawn.size());
    offered_ += lookup.measured ? 1 : 0;
    worker.open.push_back(slot);
    oldest_.push_back({now_ + ToNanos(scenario_.timeout_s), slot, lookup.serial});
    if (oldest_.size() == 1) events_.Push(oldest_.front().at, EventKind::kTimeout, 0);
    const Nanos leaves = now_ + ToNanos(costs_.lookup_us * 1e-6);
    uint64_t rows = 0;
    Nanos hedge_at = INT64_MAX;
    for (uint32_t part = 0; part < lookup.parts.size() && !lookup.finished; ++part) {
      rows += lookup.parts[part].rows;
      AskFirst(slot, part, leaves);
      hedge_at = std::min(hedge_at, lookup.parts[part].due);
    }
    const Nanos out = LinkTime(rows * kIdBytes);
    worker.link_out_free = std::max(worker.link_out_free, leaves) + out;
    if (lookup.parts.empty()) FinishLookup(slot, /*ok=*/true);
    events_.Push(worker.link_out_free + half_rtt_, EventKind::kRequests, slot);
    if (clients_.hedges() && !lookup.finished) {
      events_.Push(hedge_at, EventKind::kHedge, slot, lookup.serial);
    }
  }

  void AskFirst(uint32_t slot, uint32_t number, Nanos leaves) {
    SimLookup& lookup = lookups_[slot];
    SimPart& part = lookup.parts[number];
    const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, 0);
    if (!server.has_value()) return FinishLookup(slot, /*ok=*/false);
    clients_.budget(lookup.worker).OnRequest();
    lookup.first.push_back(Ask(slot, number, *server, AttemptKind::kFirst, leaves));
    if (!clients_.hedges()) return;
    part.after = clients_.HedgeAfter(lookup.worker, part.shard, part.rows,
                                     lookup.begun + ToNanos(scenario_.timeout_s) - leaves);
    part.due = leaves + part.after;
    const std::optional<uint32_t> trial = clients_.PickTrial(lookup.worker, part.shard, now_);
    if (!trial.has_value() || *trial == *server) return;
    lookup.first.push_back(Ask(slot, number, *trial, AttemptKind::kTrial, leaves));
  }

  // Its request is not on its way yet.
  uint32_t Ask(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind, Nanos sent) {
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
    attempt.prefill = scenario_.groups[workers_[lookup.worker].group].shape.prefill;
    attempt.sent = sent;
    clients_.AddRows(lookup.worker, server, part.rows);
    part.tried |= 1u << (server % scenario_.replicas);
    ++part.attempts;
    ++lookup.users;
    part.latest = id;
    part.server = server;
    ++result_.requests;
    return id;
  }

  void AskNow(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind) {
    events_.Push(now_ + half_rtt_, EventKind::kRequest, Ask(slot, number, server, kind, now_));
  }

  // ---------------------------------------------------------------- servers

  void OnRequest(uint32_t id) {
    SimAttempt& attempt = attempts_[id];
    SimServer& server = servers_[attempt.server];
    if (server.lost) return LoseAttempt(id);
    attempt.at_server = now_;
    attempt.wakes = server.has_idle_core();
    server.PushNew(id, attempt.prefill);
    Serve(attempt.server);
  }

  // Whether its rows are still wanted, as far as the server can have heard.
  bool Wanted(const SimAttempt& attempt) {
    if (attempt.kind == AttemptKind::kTrial) return true;
    const SimLookup& lookup = lookups_[attempt.lookup];
    const SimPart& part = lookup.parts[attempt.part];
    if (part.done && part.done_at + half_rtt_ <= now_) return false;
    return !lookup.finished || lookup.finished_at + half_rtt_ > now_;
  }

  void Serve(uint32_t number) {
    SimServer& server = servers_[number];
    while (server.has_idle_core()) {
      const std::optional<uint32_t> id = server.Pop();
      if (!id.has_value()) return;
      SimAttempt& attempt = attempts_[*id];
      if (!Wanted(attempt)) {
        DropAttempt(*id);
        continue;
      }
      const uint32_t most =
          attempt.prefill && server.has_decode() ? piece_rows_beside_decode_ : piece_rows_;
      const uint32_t rows = std::min(attempt.rows_to_serve, most);
      double cost = costs_.ServerSeconds(attempt.begun ? 0 : 1, rows);
      if (!attempt.begun && attempt.wakes) cost += scenario_.wake_us * 1e-6;
      const Nanos work = ToNanos(cost * Variation());
      if (!attempt.begun && Measured()) result_.server_queue.Add(now_ - attempt.at_server);
      if (Measured()) server.cpu_used += work;
      attempt.begun = true;
      server.TakeCore();
      events_.Push(server.quota.Finish(now_, work), EventKind::kServed, *id, rows);
    }
  }

  void OnServed(uint32_t id, uint32_t rows) {
    SimAttempt& attempt = attempts_[id];
    const uint32_t number = attempt.server;
    SimServer& server = servers_[number];
    server.FreeCore();
    if (server.lost) return LoseAttempt(id);
    attempt.rows_to_serve -= rows;
    server.link_free = std::max(server.link_free, now_) + LinkTime(BytesOf(rows));
    events_.Push(server.link_free + half_rtt_, EventKind::kAtClient, id, rows);
    if (attempt.rows_to_serve > 0) server.PushRest(id, attempt.prefill);
    Serve(number);
  }

  void OnLose(uint32_t number) {
    servers_[number].lost = true;
    const bool silent = scenario_.lost->silent;
    if (silent) {
      events_.Push(now_ + ToNanos(kSilentSeconds), EventKind::kSilent, number);
    } else {
      clients_.SetUsable(number, false);
    }
    while (const std::optional<uint32_t> id = servers_[number].Pop()) LoseAttempt(*id);
  }

  void OnDrain(uint32_t replica) {
    SetReplica(replica, false);
    const Nanos back = now_ + ToNanos(scenario_.update->restart_s);
    events_.Push(back, EventKind::kReturn, replica);
    if (replica + 1 < scenario_.replicas) events_.Push(back, EventKind::kDrain, replica + 1);
  }

  void SetReplica(uint32_t replica, bool usable) {
    for (uint32_t shard = 0; shard < scenario_.shards; ++shard) {
      clients_.SetUsable(shard * scenario_.replicas + replica, usable);
    }
  }

  // ---------------------------------------------------------------- answers

  void OnAtClient(uint32_t id, uint32_t rows) {
    SimAttempt& attempt = attempts_[id];
    const uint32_t number = lookups_[attempt.lookup].worker;
    SimWorker& worker = workers_[number];
    attempt.rows_to_come -= rows;
    clients_.TakeRows(number, attempt.server, rows);
    // Its last packet is here; what came from others meanwhile went first.
    const Nanos through = std::max(now_, worker.link_in_free + LinkTime(BytesOf(rows)));
    worker.link_in_free = through;
    if (Measured()) {
      result_.incast.Add(through - now_);
      result_.max_incast_bytes =
          std::max(result_.max_incast_bytes, Seconds(through - now_) * bytes_per_s());
    }
    const bool last = attempt.rows_to_come == 0;
    worker.cpu_free =
        std::max(worker.cpu_free, through) +
        ToNanos(costs_.ClientSeconds(last ? 1 : 0, rows / wire_shares_[worker.group]));
    if (last) events_.Push(worker.cpu_free, EventKind::kDone, id);
  }

  // As Dispatch::EndAttempt.
  void EndAttempt(uint32_t id, bool ok) {
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
          clients_.OnAnswer(client, attempt.server, part.shard, part.rows, now_ - attempt.sent, won,
                            attempt.kind == AttemptKind::kTrial, now_);
      if (won && attempt.kind == AttemptKind::kHedge) StrikeOthers(part, attempt.server, client);
    } else {
      put_aside = clients_.Strike(client, attempt.server, now_);
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

  // Whoever was asked first has been slower by more than the delay.
  void StrikeOthers(const SimPart& part, uint32_t winner, uint32_t client) {
    ++result_.hedges_won;
    for (uint32_t replica = 0; replica < scenario_.replicas; ++replica) {
      const uint32_t server = part.shard * scenario_.replicas + replica;
      if ((part.tried >> replica & 1) == 0 || server == winner) continue;
      if (clients_.Strike(client, server, now_)) OnPutAside(client, server);
    }
  }

  bool Retry(uint32_t slot, uint32_t number) {
    SimLookup& lookup = lookups_[slot];
    const SimPart& part = lookup.parts[number];
    const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, part.tried);
    if (!server.has_value()) return false;
    ++result_.retries;
    clients_.budget(lookup.worker).OnRequest();
    AskNow(slot, number, *server, AttemptKind::kFirst);
    return true;
  }

  void FinishPart(uint32_t slot, SimPart& part) {
    SimLookup& lookup = lookups_[slot];
    part.done = true;
    part.done_at = now_;
    if (--lookup.parts_left == 0) FinishLookup(slot, /*ok=*/true);
  }

  void FinishLookup(uint32_t slot, bool ok) {
    SimLookup& lookup = lookups_[slot];
    if (lookup.finished) return;
    lookup.finished = true;
    lookup.finished_at = now_;
    std::vector<uint32_t>& open = workers_[lookup.worker].open;
    open.erase(std::find(open.begin(), open.end(), slot));
    if (ok && Measured()) ++done_;
    if (lookup.measured) Record(lookup, ok);
    Release(slot);
  }

  void Record(const SimLookup& lookup, bool ok) {
    if (ok) {
      result_.latency.Add(now_ - lookup.begun);
    } else {
      ++result_.failed;
    }
    if (slices_.empty()) return;
    const auto number = static_cast<size_t>(Seconds(lookup.begun - begin_) / scenario_.slice_s);
    Slice& slice = slices_[std::min(number, slices_.size() - 1)];
    ++(ok ? slice.done : slice.failed);
    if (ok) slice.latency.Add(now_ - lookup.begun);
  }

  // ---------------------------------------------------------------- second servers

  void OnHedge(uint32_t slot, uint32_t serial) {
    SimLookup& lookup = lookups_[slot];
    if (lookup.serial != serial || lookup.finished) return;
    Nanos next = INT64_MAX;
    for (uint32_t number = 0; number < lookup.parts.size(); ++number) {
      SimPart& part = lookup.parts[number];
      if (part.done || part.hedged || part.attempts != 1) continue;
      if (part.due <= now_) {
        if (clients_.budget(lookup.worker).Spend()) {
          Hedge(slot, number, /*also_aside=*/true);
          continue;
        }
        StrikeIfSilent(lookup.worker, part);
        part.after = std::max<Nanos>(2 * part.after, 1'000'000);
        part.due = now_ + part.after;
      }
      next = std::min(next, part.due);
    }
    if (next != INT64_MAX) events_.Push(next, EventKind::kHedge, slot, serial);
  }

  void Hedge(uint32_t slot, uint32_t number, bool also_aside) {
    SimLookup& lookup = lookups_[slot];
    SimPart& part = lookup.parts[number];
    const std::optional<uint32_t> server = clients_.Pick(lookup.worker, part.shard, part.tried);
    if (!server.has_value()) return;
    if (!also_aside && !clients_.healthy(lookup.worker, *server)) return;
    part.hedged = true;
    ++result_.hedges;
    AskNow(slot, number, *server, AttemptKind::kHedge);
  }

  void StrikeIfSilent(uint32_t client, const SimPart& part) {
    const SimAttempt& attempt = attempts_[part.latest];
    if (attempt.rows_to_come != part.rows) return;
    if (clients_.answered_at(client, part.server) >= attempt.sent) return;
    if (clients_.Strike(client, part.server, now_)) OnPutAside(client, part.server);
  }

  // Others are asked for what it has not answered.
  void OnPutAside(uint32_t client, uint32_t server) {
    ++result_.ejections;
    for (const uint32_t slot : workers_[client].open) {
      SimLookup& lookup = lookups_[slot];
      for (uint32_t number = 0; number < lookup.parts.size(); ++number) {
        SimPart& part = lookup.parts[number];
        if (part.done || part.hedged || part.attempts != 1 || part.server != server) continue;
        Hedge(slot, number, /*also_aside=*/false);
      }
    }
  }

  // ---------------------------------------------------------------- ends

  void OnTimeout() {
    while (!oldest_.empty() && oldest_.front().at <= now_) {
      const Deadline deadline = oldest_.front();
      oldest_.pop_front();
      if (lookups_[deadline.lookup].serial == deadline.serial) {
        FinishLookup(deadline.lookup, /*ok=*/false);
      }
    }
    while (!oldest_.empty() && IsOver(oldest_.front())) oldest_.pop_front();
    if (!oldest_.empty()) events_.Push(oldest_.front().at, EventKind::kTimeout, 0);
  }

  // Called off: the server says so, which costs nobody anything.
  void DropAttempt(uint32_t id) {
    const SimAttempt& attempt = attempts_[id];
    const uint32_t slot = attempt.lookup;
    clients_.TakeRows(lookups_[slot].worker, attempt.server, attempt.rows_to_come);
    --lookups_[slot].parts[attempt.part].attempts;
    attempts_.Release(id);
    Release(slot);
  }

  // Its server is gone. Of a machine that is, the client hears nothing, and goes on waiting.
  void LoseAttempt(uint32_t id) {
    if (!scenario_.lost->silent) {
      events_.Push(now_ + half_rtt_, EventKind::kFailed, id);
      return;
    }
    Release(attempts_[id].lookup);  // its own slot stays: the client still refers to it
  }

  void Release(uint32_t slot) {
    SimLookup& lookup = lookups_[slot];
    if (--lookup.users > 0) return;
    ++lookup.serial;
    lookups_.Release(slot);
  }

  struct Deadline {
    Nanos at;
    uint32_t lookup;
    uint32_t serial;
  };
  bool IsOver(const Deadline& deadline) {
    const SimLookup& lookup = lookups_[deadline.lookup];
    return lookup.serial != deadline.serial || lookup.finished;
  }

  SimulationResult Report() {
    const double seconds = scenario_.seconds;
    result_.offered_per_s = static_cast<double>(offered_) / seconds;
    result_.done_per_s = static_cast<double>(done_) / seconds;
    const double cores = scenario_.cpu_quota > 0 ? scenario_.cpu_quota : scenario_.cores;
    for (const SimServer& server : servers_) {
      const double utilisation = Seconds(server.cpu_used) / (seconds * cores);
      result_.mean_utilisation += utilisation / static_cast<double>(servers_.size());
      result_.max_utilisation = std::max(result_.max_utilisation, utilisation);
    }
    for (size_t i = 0; i < slices_.size(); ++i) {
      result_.timeline.push_back({static_cast<double>(i) * scenario_.slice_s, slices_[i].done,
                                  slices_[i].failed,
                                  static_cast<double>(slices_[i].latency.Percentile(0.99)) * 1e-3});
    }
    result_.events = events_.made();
    return std::move(result_);
  }

  bool Measured() const { return now_ >= begin_ && now_ < end_; }
  uint32_t PieceRows(uint64_t bytes) const {
    return static_cast<uint32_t>(std::max<uint64_t>(1, bytes / scenario_.row_bytes));
  }
  uint64_t BytesOf(uint64_t rows) const { return rows * scenario_.row_bytes; }
  Nanos LinkTime(uint64_t bytes) const {
    return ToNanos(scenario_.network.Seconds(static_cast<double>(bytes)));
  }
  double bytes_per_s() const { return 1 / scenario_.network.Seconds(1); }
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  // Lognormal, of mean 1 (Box and Muller, 1958).
  double Variation() {
    if (scenario_.service_variation == 0) return 1;
    const double variance = std::log1p(scenario_.service_variation * scenario_.service_variation);
    const double normal = std::sqrt(-2 * std::log(1 - Uniform())) * std::cos(2 * M_PI * Uniform());
    return std::exp(std::sqrt(variance) * normal - variance / 2);
  }

  const Geometry& geometry_;
  const Scenario& scenario_;
  const Costs& costs_;
  std::mt19937_64 random_;
  const Nanos half_rtt_;
  const Nanos begin_, end_;  // of the measured time
  const uint32_t piece_rows_, piece_rows_beside_decode_;
  Nanos now_ = 0;
  EventQueue events_;
  SimClients clients_;
  std::vector<std::vector<LookupPool>> pools_;  // by group and layer
  std::vector<double> wire_shares_;             // by group
  std::vector<Nanos> intervals_;                // by group
  std::vector<SimWorker> workers_;
  std::vector<SimServer> servers_;
  Slots<SimLookup> lookups_;
  Slots<SimAttempt> attempts_;
  std::deque<Deadline> oldest_;
  std::vector<Slice> slices_;
  uint64_t offered_ = 0, done_ = 0;
  SimulationResult result_;
};

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const Geometry& geometry, const Scenario& scenario) {
  RETURN_IF_ERROR(scenario.Validate(geometry));
  return std::make_unique<Simulator>(geometry, scenario)->Run();
}

}  // namespace engram::sizing

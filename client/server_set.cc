#include "client/server_set.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

const GenerationStatus* FindGeneration(const std::vector<GenerationStatus>& generations,
                                       const Sha256& digest) {
  const auto it = std::find_if(generations.begin(), generations.end(),
                               [&](const GenerationStatus& each) { return each.digest == digest; });
  return it == generations.end() ? nullptr : &*it;
}

}  // namespace

ServerSet::ServerSet(const ClientOptions& options, const ServerLink::Shared& shared,
                     Resolver* resolver, Listener* listener)
    : options_(options),
      shared_(shared),
      listener_(listener),
      directory_(resolver, options.resolve_interval, [loop = shared.loop] { loop->Wake(); }) {
  directory_.SetNames(options.servers);
}

// ---------------------------------------------------------------- which there are

void ServerSet::Tick(absl::Time now) {
  if (shutdown_) return;
  const bool was_tried = directory_.all_tried();
  if (directory_.Tick(now)) FollowDirectory();
  RemoveIdle();
  ForEachLane([now](Lane& lane) { lane.link->Tick(now); });
  if (directory_.all_tried() != was_tried) PublishConnection();
}

absl::Time ServerSet::next_tick() const {
  absl::Time next = directory_.next_tick();
  for (const auto& server : servers_) {
    if (server == nullptr) continue;
    for (const Lane& lane : server->lanes) next = std::min(next, lane.link->next_tick());
  }
  return shutdown_ ? absl::InfiniteFuture() : next;
}

void ServerSet::FollowDirectory() {
  std::vector<Endpoint> wanted = directory_.endpoints();
  for (auto& server : servers_) {
    if (server == nullptr || server->leaving) continue;
    const auto it = std::find_if(wanted.begin(), wanted.end(), [&](const Endpoint& endpoint) {
      return endpoint.name == server->endpoint.name && endpoint.address == server->endpoint.address;
    });
    if (it != wanted.end()) {
      wanted.erase(it);
      continue;
    }
    server->leaving = true;
    server->ranges.clear();
    server->generations.clear();
    if (options_.log) options_.log(absl::StrCat("server ", server->endpoint.label, " has gone"));
  }
  for (const Endpoint& endpoint : wanted) Add(endpoint);
  RebuildMap();
  PublishConnection();
}

void ServerSet::Add(const Endpoint& endpoint) {
  const auto free = std::find(servers_.begin(), servers_.end(), nullptr);
  const auto number = static_cast<size_t>(free - servers_.begin());
  if (free == servers_.end()) servers_.emplace_back();
  servers_[number] = std::make_unique<Server>();
  Server& server = *servers_[number];
  server.endpoint = endpoint;
  for (size_t i = 0; i < kLanes; ++i) {
    const bool urgent = i == static_cast<size_t>(LookupPriority::kDecode);
    const absl::Duration refresh = options_.follow_generations && !urgent
                                       ? options_.follow_interval
                                       : absl::InfiniteDuration();
    server.lanes[i].link = std::make_unique<ServerLink>(
        number * kLanes + i, endpoint, urgent, options_.expect_digest, refresh, shared_, this);
  }
}

void ServerSet::RemoveIdle() {
  for (auto& server : servers_) {
    if (server == nullptr || !server->leaving) continue;
    if (!std::all_of(server->lanes.begin(), server->lanes.end(),
                     [](const Lane& lane) { return lane.idle() && !lane.unsent; })) {
      continue;
    }
    // What its links say while they go is of no interest any more.
    for (Lane& lane : server->lanes) lane.link.reset();
    server.reset();
  }
}

void ServerSet::Shutdown() {
  shutdown_ = true;
  ForEachLane([](Lane& lane) { lane.link->Shutdown(); });
}

// ---------------------------------------------------------------- what they hold

absl::Status ServerSet::Accept(size_t link, ServerInfo info) {
  Server& server = *servers_[link / kLanes];
  const std::string& label = server.endpoint.label;
  if (!table_.has_value()) {
    table_ = TableInfo{info.model, info.geometry, info.layout, info.token_map, info.digest, label};
  }
  server.generations = std::move(info.generations);
  LearnLineage(server.generations);
  if (!settled_ && !options_.expect_digest.has_value()) {
    if (const std::optional<Sha256> chosen = ChooseDigest()) UseDigest(*chosen);
  }
  const GenerationStatus* const held = FindGeneration(server.generations, table_->digest);
  // A client that follows may find its generation gone, and goes on with the next.
  const bool follows =
      settled_ && options_.follow_generations &&
      std::any_of(server.generations.begin(), server.generations.end(),
                  [&](const auto& each) { return lineage_.contains(each.digest); });
  if ((held == nullptr && !follows) || info.layout != table_->layout ||
      info.geometry.params() != table_->geometry.params()) {
    server.generations.clear();
    const absl::Status conflict = absl::FailedPreconditionError(
        absl::StrCat("serves the table of digest ", ToHex(info.digest), ", but ", table_->source,
                     " serves that of ", ToHex(table_->digest)));
    MutexLock lock(&mutex_);
    connection_.conflict =
        absl::Status(conflict.code(), absl::StrCat(label, " ", conflict.message()));
    return conflict;
  }
  if (server.leaving) {
    server.generations.clear();
    return absl::UnavailableError("is not one of the servers any more");
  }
  server.max_rows = info.max_rows_per_request;
  if (follows) next_digest_ = FindNextDigest();
  std::vector<RowRange> ranges = held == nullptr ? std::vector<RowRange>() : held->ranges;
  if (map_.has_value() && server.ranges == ranges) return absl::OkStatus();
  server.ranges = std::move(ranges);
  RebuildMap();
  return absl::OkStatus();
}

void ServerSet::OnDescribed(size_t link, ServerInfo info) {
  Server& server = *servers_[link / kLanes];
  if (server.leaving || server.generations.empty() ||
      info.geometry.params() != table_->geometry.params() || info.layout != table_->layout) {
    return;
  }
  server.generations = std::move(info.generations);
  LearnLineage(server.generations);
  next_digest_ = FindNextDigest();
}

void ServerSet::LearnLineage(const std::vector<GenerationStatus>& generations) {
  lineage_.insert(table_->digest);
  for (bool learned = true; learned;) {
    learned = false;
    for (const GenerationStatus& each : generations) {
      if (!each.base.has_value() ||
          lineage_.contains(each.digest) == lineage_.contains(*each.base)) {
        continue;
      }
      lineage_.insert({each.digest, *each.base});
      learned = true;
    }
  }
}

std::optional<Sha256> ServerSet::ChooseDigest() const {
  std::vector<const Server*> accepted;
  for (const auto& server : servers_) {
    if (server != nullptr && !server->generations.empty()) accepted.push_back(server.get());
  }
  if (accepted.empty()) return std::nullopt;
  // Servers name a base before what was published on it.
  for (const GenerationStatus& candidate : accepted[0]->generations) {
    bool all_hold = true, active = false;
    for (const Server* server : accepted) {
      const GenerationStatus* const held = FindGeneration(server->generations, candidate.digest);
      all_hold = all_hold && held != nullptr;
      active = active || (held != nullptr && held->active);
    }
    if (all_hold && active) return candidate.digest;
  }
  return std::nullopt;
}

std::optional<Sha256> ServerSet::FindNextDigest() const {
  std::vector<Sha256> candidates;
  for (const auto& server : servers_) {
    if (server == nullptr) continue;
    for (const GenerationStatus& each : server->generations) {
      if (each.active && each.digest != table_->digest && lineage_.contains(each.digest)) {
        candidates.push_back(each.digest);
      }
    }
  }
  for (const Sha256& candidate : candidates) {
    std::vector<std::vector<RowRange>> active;
    for (const auto& server : servers_) {
      const GenerationStatus* const held =
          server == nullptr ? nullptr : FindGeneration(server->generations, candidate);
      active.push_back(held != nullptr && held->active ? held->ranges : std::vector<RowRange>());
    }
    const ClusterMap map(table_->geometry, active);
    if (map.Missing(std::vector<bool>(active.size(), true)).empty()) return candidate;
  }
  return std::nullopt;
}

void ServerSet::UseDigest(const Sha256& digest) {
  if (table_->digest == digest) return;
  table_->digest = digest;
  for (const auto& server : servers_) {
    if (server == nullptr) continue;
    const GenerationStatus* const held = FindGeneration(server->generations, digest);
    server->ranges = held == nullptr ? std::vector<RowRange>() : held->ranges;
  }
  RebuildMap();
}

void ServerSet::Settle(const Sha256& digest) {
  settled_ = true;
  UseDigest(digest);
  PublishConnection();
}

void ServerSet::TakeNextDigest() {
  if (!next_digest_.has_value()) return;
  UseDigest(*std::exchange(next_digest_, std::nullopt));
  if (options_.log) options_.log(absl::StrCat("rows are of the table ", ToHex(table_->digest)));
  PublishConnection();
}

void ServerSet::RebuildMap() {
  if (!table_.has_value()) return;
  std::vector<std::vector<RowRange>> held;
  for (const auto& server : servers_) {
    held.push_back(server == nullptr ? std::vector<RowRange>() : server->ranges);
  }
  map_.emplace(table_->geometry, held);
}

ServerSet::Holders ServerSet::HoldersOf(const RowRange& rows) const {
  Holders holders;
  for (size_t i = 0; i < servers_.size(); ++i) {
    if (servers_[i] == nullptr) continue;
    const std::vector<RowRange>& ranges = servers_[i]->ranges;
    if (std::any_of(ranges.begin(), ranges.end(), [&](const RowRange& range) {
          return range.layer == rows.layer && range.begin <= rows.begin && rows.end <= range.end;
        })) {
      holders.push_back(i);
    }
  }
  return holders;
}

// ---------------------------------------------------------------- whom to ask

absl::StatusOr<size_t> ServerSet::Pick(LookupPriority priority, const RowRange& rows,
                                       const Holders& holders,
                                       const absl::InlinedVector<size_t, 4>& tried) {
  const Lane* best = nullptr;
  size_t picked = 0;
  bool best_healthy = false;
  ++turn_;
  for (size_t i = 0; i < holders.size(); ++i) {
    const size_t candidate = holders[(turn_ + i) % holders.size()];
    if (std::find(tried.begin(), tried.end(), candidate) != tried.end()) continue;
    const Lane& lane = LaneTo(candidate, priority);
    if (!lane.link->usable()) continue;
    const bool healthy = servers_[candidate]->health.healthy();
    if (best != nullptr && best_healthy && !healthy) continue;
    if (best == nullptr || (healthy && !best_healthy) || lane.bytes() < best->bytes()) {
      best = &lane;
      best_healthy = healthy;
      picked = candidate;
    }
  }
  if (best != nullptr) return picked;
  std::string message = absl::StrCat("no server is up that holds ", ToString(rows));
  const char* separator = ": ";
  for (const size_t holder : holders) {
    const absl::Status& status = LaneTo(holder, priority).link->status();
    if (status.ok()) continue;
    absl::StrAppend(&message, separator, status.message());
    separator = "; ";
  }
  return absl::UnavailableError(message);
}

std::optional<size_t> ServerSet::PickTrial(LookupPriority priority, const Holders& holders) const {
  for (const size_t holder : holders) {
    const Server& server = *servers_[holder];
    if (server.health.healthy()) continue;
    if (server.health.state(absl::Now()) != ServerHealth::State::kProbation) continue;
    if (!server.lanes[static_cast<size_t>(priority)].link->usable()) continue;
    if (server.lanes[0].idle() && server.lanes[1].idle()) return holder;
  }
  return std::nullopt;
}

size_t ServerSet::ServerOf(const Lane& lane) const { return lane.link->number() / kLanes; }

// ---------------------------------------------------------------- what comes of them

absl::Status ServerSet::OnAnswer(size_t link, const StreamResponse& header) {
  return listener_->OnAnswer(LaneOf(link), header);
}

absl::Status ServerSet::OnRows(size_t link, std::span<const uint8_t> bytes) {
  return listener_->OnRows(LaneOf(link), bytes);
}

absl::Status ServerSet::OnAnswerEnd(size_t link) { return listener_->OnAnswerEnd(LaneOf(link)); }

void ServerSet::OnDown(size_t link, const absl::Status& why) {
  if (options_.log) options_.log(why.message());
  listener_->OnDown(LaneOf(link), why);
}

void ServerSet::OnChange(size_t link) {
  const Server& server = *servers_[link / kLanes];
  if (options_.log && StatusOf(server).ok()) {
    options_.log(absl::StrCat("server ", server.endpoint.label, " is up"));
  }
  PublishConnection();
}

bool ServerSet::Usable(const Server& server) const {
  return std::all_of(server.lanes.begin(), server.lanes.end(),
                     [](const Lane& lane) { return lane.link->usable(); });
}

const absl::Status& ServerSet::StatusOf(const Server& server) {
  const absl::Status& decode = server.lanes[0].link->status();
  return decode.ok() ? server.lanes[1].link->status() : decode;
}

void ServerSet::PublishConnection() {
  MutexLock lock(&mutex_);
  connection_.table = table_;
  std::vector<bool> usable;
  connection_.servers.clear();
  for (const auto& [name, status] : directory_.unresolved()) {
    connection_.servers.push_back({name, name, status});
  }
  connection_.all_tried = directory_.all_tried();
  for (const auto& server : servers_) {
    usable.push_back(server != nullptr && Usable(*server));
    if (server == nullptr || server->leaving) continue;
    connection_.servers.push_back({server->endpoint.label, ToString(server->endpoint.address),
                                   StatusOf(*server), !server->health.healthy()});
    for (const Lane& lane : server->lanes) {
      connection_.all_tried = connection_.all_tried && lane.link->tried();
    }
  }
  if (map_.has_value()) connection_.missing = map_->Missing(usable);
  connection_changed_.NotifyAll();
}

Connection ServerSet::connection() const {
  MutexLock lock(&mutex_);
  return connection_;
}

}  // namespace engram

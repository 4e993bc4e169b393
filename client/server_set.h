// The servers that a client knows, the connections to them, and what they hold together.
#ifndef ENGRAM_CLIENT_SERVER_SET_H_
#define ENGRAM_CLIENT_SERVER_SET_H_

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cluster_map.h"
#include "client/hedging.h"
#include "client/options.h"
#include "client/request.h"
#include "client/server_directory.h"
#include "client/server_health.h"
#include "client/server_link.h"
#include "client/shedding.h"
#include "proto/base/mutex.h"

namespace engram {

// What the servers agree on. Set once, by the first server that is accepted.
struct TableInfo {
  std::string model;
  Geometry geometry;
  RowLayout layout;
  std::optional<Sha256> token_map;
  Sha256 digest{};
  std::string source;  // the server that said so
};

struct ServerState {
  std::string label;
  std::string address;   // of this one alone
  absl::Status status;   // OK while it can be asked
  bool ejected = false;  // put aside
};

// How far connecting has come, for threads that wait for it.
struct Connection {
  std::optional<TableInfo> table;
  std::vector<RowRange> missing;  // while table is set
  std::vector<ServerState> servers;
  bool all_tried = false;  // every server once, well or badly
  absl::Status conflict;   // servers of differing tables
};

// One connection to a server, and what is asked by it.
struct Lane {
  std::unique_ptr<ServerLink> link;
  std::deque<std::unique_ptr<Attempt>> waiting;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Attempt>> in_flight;
  uint64_t bytes_waiting = 0;    // answers to what waits
  uint64_t bytes_in_flight = 0;  // answers, or what is left of them, to what is in flight
  Shedding shedding;
  bool unsent = false;  // it has messages that wait for Flush
  // Of the answer that is coming, whose request may have been ended meanwhile.
  uint64_t receiving = 0;  // its request's id
  bool receiving_last = false;

  uint64_t bytes() const { return bytes_waiting + bytes_in_flight; }
  bool idle() const { return waiting.empty() && in_flight.empty(); }
};

// All but connection() and WaitForConnection() is for the I/O thread alone.
//
// To each server lead two lanes, a connection each: one for decode, one for prefill. What TCP has
// taken of a large prefill answer would otherwise stand in front of every small one.
class ServerSet final : public ServerLink::Listener {
 public:
  // What comes of a lane; as ServerLink::Listener.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual absl::Status OnAnswer(Lane& lane, const StreamResponse& header) = 0;
    virtual absl::Status OnRows(Lane& lane, std::span<const uint8_t> bytes) = 0;
    virtual absl::Status OnAnswerEnd(Lane& lane) = 0;
    virtual void OnDown(Lane& lane, const absl::Status& why) = 0;
  };

  // Where a part may go: numbers of servers.
  using Holders = absl::InlinedVector<size_t, 4>;

  ServerSet(const ClientOptions& options, const ServerLink::Shared& shared, Resolver* resolver,
            Listener* listener);

  // The servers from now on. Those that are no longer named get no new requests, and are let go
  // when they have answered.
  void SetServers(const std::vector<std::string>& names) { directory_.SetNames(names); }

  void Tick(absl::Time now);
  absl::Time next_tick() const;
  void Shutdown();

  // While nothing was accepted: null.
  const TableInfo* table() const { return table_.has_value() ? &*table_ : nullptr; }
  const ClusterMap& map() const { return *map_; }
  // The most rows that one request of it may have.
  uint64_t max_rows(size_t server) const { return servers_[server]->max_rows; }

  Lane& LaneTo(size_t server, LookupPriority priority) {
    return servers_[server]->lanes[static_cast<size_t>(priority)];
  }
  ServerHealth& health(size_t server) { return servers_[server]->health; }
  // Some server's health() is another now: connection() says so, too.
  void ShowHealth() { PublishConnection(); }
  AnswerTimes& answer_times(size_t server) { return servers_[server]->answer_times; }
  // When it last answered a request.
  absl::Time& answered_at(size_t server) { return servers_[server]->answered_at; }
  const std::string& label(size_t server) const { return servers_[server]->endpoint.label; }
  // The server at the other end of a lane.
  size_t ServerOf(const Lane& lane) const;
  template <typename Visit>
  void ForEachLane(Visit visit) {
    for (auto& server : servers_) {
      if (server == nullptr) continue;
      for (Lane& lane : server->lanes) visit(lane);
    }
  }

  // Keeps to this table from now on, whatever servers have active: after connecting. Those that do
  // not hold it hold nothing.
  void Settle(const Sha256& digest);
  // Of the table that all rows' servers have active by now, where it is another and the client
  // follows; TakeNextDigest makes it table()'s.
  const std::optional<Sha256>& next_digest() const { return next_digest_; }
  void TakeNextDigest();

  // The servers that hold all of `rows`.
  Holders HoldersOf(const RowRange& rows) const;
  // The one of `holders` to ask: up, not `tried`, healthy rather than not, and with the least to
  // do. Unavailable: there is none, with what is the matter with each.
  absl::StatusOr<size_t> Pick(LookupPriority priority, const RowRange& rows, const Holders& holders,
                              const absl::InlinedVector<size_t, 4>& tried);
  // One of `holders` that is on probation and has nothing to do.
  std::optional<size_t> PickTrial(LookupPriority priority, const Holders& holders) const;

  // A copy; any thread.
  Connection connection() const;
  // Blocks until `enough(connection)` or `deadline`; any thread.
  template <typename Enough>
  Connection WaitForConnection(absl::Time deadline, Enough enough) const {
    MutexLock lock(&mutex_);
    while (!enough(connection_) && connection_changed_.WaitUntil(&mutex_, deadline)) {
    }
    return connection_;
  }

 private:
  static constexpr size_t kLanes = 2;  // by LookupPriority

  struct Server {
    Endpoint endpoint;
    std::array<Lane, kLanes> lanes;
    std::vector<RowRange> ranges;  // of the table, as last described, also while it is down
    std::vector<GenerationStatus> generations;  // as last described; none: not accepted
    uint64_t max_rows = 0;
    ServerHealth health;
    AnswerTimes answer_times;
    absl::Time answered_at = absl::InfinitePast();
    bool leaving = false;  // no longer named
  };

  absl::Status Accept(size_t link, ServerInfo info) override;
  void OnDescribed(size_t link, ServerInfo info) override;
  void OnChange(size_t link) override;
  absl::Status OnAnswer(size_t link, const StreamResponse& header) override;
  absl::Status OnRows(size_t link, std::span<const uint8_t> bytes) override;
  absl::Status OnAnswerEnd(size_t link) override;
  void OnDown(size_t link, const absl::Status& why) override;

  Lane& LaneOf(size_t link) { return servers_[link / kLanes]->lanes[link % kLanes]; }
  // Whether all lanes to it are up.
  bool Usable(const Server& server) const;
  // Of a server: the first of its lanes' statuses that is not OK.
  static const absl::Status& StatusOf(const Server& server);
  void FollowDirectory();
  void Add(const Endpoint& endpoint);
  // Lets go of those that are leaving and have nothing to do.
  void RemoveIdle();
  void RebuildMap();
  // The first digest that every accepted server holds and one of them has active: the older one
  // where several are.
  std::optional<Sha256> ChooseDigest() const;
  // Adds what is published on a generation of the table, or what one is published on.
  void LearnLineage(const std::vector<GenerationStatus>& generations);
  // The generation of the table that servers have active of all rows, where it is another.
  std::optional<Sha256> FindNextDigest() const;
  void UseDigest(const Sha256& digest);
  void PublishConnection();

  const ClientOptions& options_;
  const ServerLink::Shared shared_;
  Listener* const listener_;
  ServerDirectory directory_;
  std::vector<std::unique_ptr<Server>> servers_;  // by number; null: free
  std::optional<TableInfo> table_;
  std::optional<ClusterMap> map_;
  std::optional<Sha256> next_digest_;
  std::set<Sha256> lineage_;  // generations of the table, as far as servers have told of them
  bool settled_ = false;
  size_t turn_ = 0;  // among equals
  bool shutdown_ = false;

  mutable Mutex mutex_;
  mutable CondVar connection_changed_;
  Connection connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SERVER_SET_H_

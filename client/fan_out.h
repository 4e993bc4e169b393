// The work of the I/O thread: a lookup's row ids go out to the servers that hold them, and what
// comes back goes to its place. Stages, in the order of FanOut::Start: ids or hash, plan, cut into
// requests, send under credit; then scatter, one answer at a time, and finish the layer.
#ifndef ENGRAM_CLIENT_FAN_OUT_H_
#define ENGRAM_CLIENT_FAN_OUT_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cluster_map.h"
#include "client/lookup.h"
#include "client/options.h"
#include "client/scatter.h"
#include "client/server_link.h"
#include "client/shard_plan.h"
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

// How far connecting has come, for threads that wait for it.
struct Connection {
  std::optional<TableInfo> table;
  std::vector<RowRange> missing;  // while table is set
  std::vector<std::pair<std::string, absl::Status>> servers;
  bool all_tried = false;  // every server once, well or badly
  absl::Status conflict;   // servers of differing tables
};

// Everything but connection() and WaitForConnection() is for the I/O thread alone.
//
// To each server lead two lanes, a connection each: one for decode, one for prefill. What TCP has
// taken of a large prefill answer would otherwise stand in front of every small one.
class FanOut final : public ServerLink::Listener {
 public:
  FanOut(const ClientOptions& options, const ServerLink::Shared& shared);

  // Takes a lookup whose layers will all be finished by this object.
  void Start(std::shared_ptr<Lookup> lookup);
  // Goes on with a layer that has waited for a prefetch.
  void Resume(const std::shared_ptr<Lookup>& lookup, uint32_t layer);
  // Ends a lookup early.
  void Cancel(Lookup& lookup, const absl::Status& why);
  // Moves links that are due, ends lookups whose deadline has passed. To be called at NextTick, and
  // whenever the event loop was woken.
  void Tick(absl::Time now);
  absl::Time NextTick() const { return next_tick_; }
  // Sends what the calls above have asked for. Requests that were made together leave together.
  void Flush();
  // Ends every lookup and gives up all links.
  void Shutdown();

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

  // Used by SubmitTokens; set before the first lookup by token ids.
  void set_hasher(RowHasher hasher) { hasher_ = std::move(hasher); }
  const RowHasher& hasher() const { return *hasher_; }  // must have been set

 private:
  // Rows [begin, end) of a layer's plan (of its ids, where it needs none), asked of one server.
  // Counted in the layer's `requests` until it is over.
  struct Request {
    Request(std::shared_ptr<Lookup> its_lookup, LookupLayer& its_layer, size_t from, size_t to);

    const std::shared_ptr<Lookup> lookup;
    LookupLayer& layer;
    const size_t begin, end;
    RowScatter scatter;
    uint32_t next_piece = 0;
  };
  // One connection to a server.
  struct Lane {
    std::unique_ptr<ServerLink> link;
    std::deque<std::unique_ptr<Request>> waiting;
    absl::flat_hash_map<uint64_t, std::unique_ptr<Request>> in_flight;
    uint64_t bytes_in_flight = 0;
    bool unsent = false;  // it has messages that wait for Flush
    // Of the answer that is coming, whose request may have been ended meanwhile.
    uint64_t receiving = 0;  // its request's id
    bool receiving_last = false;
  };
  struct Server {
    std::vector<RowRange> ranges;  // as last described, also while it is down
    uint64_t max_rows = 0;
  };
  static constexpr size_t kLanes = 2;  // by LookupPriority

  absl::Status Accept(size_t link, ServerInfo info) override;
  void OnChange(size_t link) override;
  absl::Status OnAnswer(size_t link, const StreamResponse& header) override;
  absl::Status OnRows(size_t link, std::span<const uint8_t> bytes) override;
  absl::Status OnAnswerEnd(size_t link) override;
  void OnDown(size_t link, const absl::Status& why) override;

  void StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);
  absl::Status SendLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);
  absl::Status Plan(LookupLayer& layer);
  absl::Status SendGroup(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                         const Segment& segment, size_t begin, size_t end);
  absl::StatusOr<size_t> PickServer(LookupPriority priority, uint32_t layer,
                                    const Segment& segment) const;
  void SendWaiting(Lane& lane);
  void SendRequest(Lane& lane, std::unique_ptr<Request> request);
  void SendCancel(Lane& lane, uint64_t request_id);
  std::span<uint8_t> AddMessage(Lane& lane, size_t bytes);
  void EndOverdue(absl::Time now);
  absl::Status CheckPiece(Request& request, const StreamResponse& header) const;
  // The end of a request, answered or not, or of a layer's start; the last one of a layer finishes
  // it, unless it is.
  void EndRequest(Lookup& lookup, LookupLayer& layer);
  void FinishLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& status);
  // FinishLayer with a failure; what is in flight of the layer is cancelled.
  void FailLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& why);
  // Calls back for lookups that have come to their end. Last in whatever may have ended one: what
  // is called may submit, and what was touched before may be gone.
  void CallBack();

  Lane& LaneTo(size_t server, LookupPriority priority) {
    return lanes_[server * kLanes + static_cast<size_t>(priority)];
  }
  const Lane& LaneTo(size_t server, LookupPriority priority) const {
    return lanes_[server * kLanes + static_cast<size_t>(priority)];
  }
  // Whether all lanes to it are up.
  std::vector<bool> Usable() const;
  // Of a server: the first of its lanes' statuses that is not OK.
  const absl::Status& StatusOf(size_t server) const;
  void PublishConnection();

  const ClientOptions options_;
  std::vector<Server> servers_;
  std::vector<Lane> lanes_;
  std::vector<Lane*> unsent_;
  std::optional<TableInfo> table_;
  std::optional<ClusterMap> map_;
  std::optional<RowHasher> hasher_;
  std::vector<std::shared_ptr<Lookup>> active_;        // each knows its place
  std::vector<std::shared_ptr<Lookup>> ended_;         // to be called back
  absl::Time next_deadline_ = absl::InfiniteFuture();  // not later than any active lookup's
  absl::Time next_tick_ = absl::InfinitePast();        // nor than any link's
  uint64_t next_request_id_ = 1;
  std::vector<std::unique_ptr<ShardPlan>> spare_plans_;  // their vectors keep their memory
  bool shutdown_ = false;

  mutable Mutex mutex_;
  mutable CondVar connection_changed_;
  Connection connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_FAN_OUT_H_

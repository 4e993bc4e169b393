// The work of the I/O thread: a lookup's row ids go out to the servers that hold them, and what
// comes back goes to its place. Stages, in the order of FanOut::Start: hash, plan, cut into
// requests, send under credit; then scatter, one answer at a time, and finish the layer.
#ifndef ENGRAM_CLIENT_FAN_OUT_H_
#define ENGRAM_CLIENT_FAN_OUT_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

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
class FanOut final : public ServerLink::Listener {
 public:
  // Borrows `queue`.
  FanOut(const ClientOptions& options, grpc::CompletionQueue* queue);

  // Takes a lookup whose layers will all be finished by this object.
  void Start(std::shared_ptr<Lookup> lookup);
  // Ends a lookup early.
  void Cancel(Lookup& lookup, const absl::Status& why);
  // Connects links that are due, ends lookups whose deadline has passed.
  void Tick(absl::Time now);
  // When Tick has something to do at the latest.
  absl::Time NextTick() const;
  // Ends every lookup and gives up all links; idle() comes true when the queue has delivered all.
  void Shutdown();
  bool idle() const;

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

 private:
  // A request to one server. It owns its place in the caller's order; see RowScatter.
  struct Request {
    std::shared_ptr<Lookup> lookup;
    LookupLayer* layer;
    std::vector<uint64_t> rows;  // until it is sent
    RowScatter scatter;
    uint32_t next_piece = 0;
  };
  struct Server {
    std::unique_ptr<ServerLink> link;
    std::vector<RowRange> ranges;  // as last described, also while it is down
    uint64_t max_rows = 0;
    std::deque<Request> waiting[2];  // by priority
    std::unordered_map<uint64_t, Request> in_flight;
    uint64_t bytes_in_flight = 0;
  };

  absl::Status Accept(size_t server, ServerInfo info) override;
  void OnUp(size_t server) override;
  absl::Status OnResponse(size_t server, const StreamResponse& response,
                          const grpc::ByteBuffer& message) override;
  void OnDown(size_t server, const absl::Status& why) override;

  void StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);
  // Of a lookup by token ids: fills the layer's ids.
  void Hash(const Lookup& lookup, LookupLayer& layer) const;
  absl::Status SendGroup(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                         const Segment& segment, size_t begin, size_t end);
  absl::StatusOr<size_t> PickServer(const LookupLayer& layer, const Segment& segment) const;
  void SendWaiting(Server& server);
  void SendRequest(Server& server, Request request);
  absl::Status ScatterPiece(Request& request, const StreamResponse& response,
                            const grpc::ByteBuffer& message) const;
  void FinishRequest(Request& request);
  void FailLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& why);
  void DropFinished();
  std::vector<bool> Usable() const;
  void PublishConnection();

  const ClientOptions options_;
  std::vector<Server> servers_;
  std::optional<TableInfo> table_;
  std::optional<ClusterMap> map_;
  std::optional<RowHasher> hasher_;
  std::vector<std::shared_ptr<Lookup>> active_;
  absl::Time next_deadline_ = absl::InfiniteFuture();  // not later than any active lookup's
  uint64_t next_request_id_ = 1;
  ShardPlan plan_;
  bool shutdown_ = false;

  mutable Mutex mutex_;
  mutable CondVar connection_changed_;
  Connection connection_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_FAN_OUT_H_

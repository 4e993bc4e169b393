// Parts of lookups out to servers, and their rows back into place: credit, answers, and what is
// done when a server is slow or fails.
#ifndef ENGRAM_CLIENT_DISPATCH_H_
#define ENGRAM_CLIENT_DISPATCH_H_

#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/hedging.h"
#include "client/options.h"
#include "client/request.h"
#include "client/server_set.h"
#include "client/stats.h"

namespace engram {

// For the I/O thread alone. DESIGN: client/README.md, "Replicas".
class Dispatch final : public ServerSet::Listener {
 public:
  // Both are called with a layer that may have been finished before.
  class Listener {
   public:
    virtual ~Listener() = default;
    // A part's rows could not be had of any server. It is over, as OnPartOver says right after.
    virtual void OnPartFailed(const Part& part, const absl::Status& why) = 0;
    // A part is over, well or badly: the layer's count was taken down by one.
    virtual void OnPartOver(const Part& part) = 0;
    // An answer, or what a lost connection leaves, has been dealt with.
    virtual void OnAnswered() = 0;
  };

  Dispatch(const ClientOptions& options, const ServerLink::Shared& shared, Resolver* resolver,
           Listener* listener);

  ServerSet& servers() { return servers_; }
  const ServerSet& servers() const { return servers_; }
  const StatsCounters& stats() const { return stats_; }
  StatsCounters& stats() { return stats_; }

  // Asks for rows [begin, end) of the layer's plan, all of which the segment's servers hold, in as
  // many parts as their limits ask for. Unavailable: none of them is up; nothing was sent.
  absl::Status Send(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer,
                    const Segment& segment, size_t begin, size_t end);
  // Calls visit(part) for every part of the layer that is not over.
  template <typename Visit>
  void ForEachPart(const LookupLayer& layer, Visit visit) {
    const auto visit_attempt = [&](const Attempt& attempt) {
      if (&attempt.part->layer == &layer && !attempt.part->done) visit(*attempt.part);
    };
    servers_.ForEachLane([&](Lane& lane) {
      for (const auto& [id, attempt] : lane.in_flight) visit_attempt(*attempt);
      for (const auto& attempt : lane.waiting) visit_attempt(*attempt);
    });
  }
  // Tells servers that the layer, which has been finished, is not wanted any more.
  void Cancel(const LookupLayer& layer);

  // Gives up all links, and lets go of every lookup.
  void Shutdown();

  void Tick(absl::Time now);
  absl::Time next_tick() const;
  // Sends what was asked for. Requests that were made together leave together.
  void Flush();

 private:
  // When another server is to be asked for a part as well, if it is still waited for then.
  struct SecondRequest {
    absl::Time at;
    absl::Duration after;  // it was sent
    std::shared_ptr<Part> part;
    // How often in a row it was due without a budget while the server asked had been silent.
    uint32_t silences = 0;
    bool operator<(const SecondRequest& other) const { return at > other.at; }  // earliest on top
  };

  absl::Status OnAnswer(Lane& lane, const StreamResponse& header) override;
  absl::Status OnRows(Lane& lane, std::span<const uint8_t> bytes) override;
  absl::Status OnAnswerEnd(Lane& lane) override;
  void OnDown(Lane& lane, const absl::Status& why) override;

  // Asks a server, chosen before.
  void Ask(const std::shared_ptr<Part>& part, size_t server, Attempt::Kind kind);
  // Whether its credit lets an answer of so many bytes be asked for.
  bool HasRoom(const Lane& lane, uint64_t bytes) const {
    return lane.bytes_in_flight == 0 || lane.bytes_in_flight + bytes <= options_.credit_bytes;
  }
  // ResourceExhausted, with when to try again: an answer, behind so many bytes of others, would not
  // come in time.
  absl::Status CheckTime(Lane& lane, const Attempt& attempt, uint64_t bytes_before);
  void SendWaiting(Lane& lane);
  void SendRequest(Lane& lane, std::unique_ptr<Attempt> attempt);
  void SendCancel(Lane& lane, uint64_t request_id);
  std::span<uint8_t> AddMessage(Lane& lane, size_t bytes);

  absl::Status CheckPiece(Attempt& attempt, const StreamResponse& header) const;
  // Rows of the piece that the server names as lost.
  absl::Status NoteLost(const Lane& lane, Attempt& attempt, const StreamResponse& header);
  // Asks other servers for the rows that one has lost; where there is none the part has failed.
  void AskForLost(size_t server, const Attempt& attempt);
  // Holds the rows of the piece that has come against their checksums.
  void VerifyPiece(const Lane& lane, Attempt& attempt, size_t end_row);
  Attempt* Receiving(Lane& lane);
  // Whether rows of the attempt that have come are written to their places.
  static bool MayWrite(Attempt& attempt);

  // An attempt's one end: answered whole (OK), or why not.
  void EndAttempt(size_t server, Attempt& attempt, const absl::Status& status);
  // Whether another server is to be asked after an attempt has ended so.
  bool MayRetry(const Attempt& attempt, const absl::Status& status);
  // What an answer may take by the measure of the quickest healthy server that holds the part's
  // rows, one server left out. Infinite: not known.
  absl::Duration LateAfter(const Part& part, std::optional<size_t> but);
  // After what time another server is asked as well.
  absl::Duration HedgeAfter(const Part& part, absl::Time sent);
  void Judge(size_t server, const Attempt& attempt, bool won, const absl::Status& status);
  void FinishPart(const std::shared_ptr<Part>& part);
  // Asks another server in the place of one that has failed, or was never sent anything; false:
  // there is none.
  bool AskAnother(const std::shared_ptr<Part>& part, Attempt::Kind kind);
  // Asks another server beside one that takes long; one that was put aside only where that is said.
  void Hedge(const std::shared_ptr<Part>& part, bool also_aside);
  // The server asked for the part, if it has answered nobody since. One that is busy answers
  // others.
  std::optional<size_t> SilentServer(const Part& part);
  void Strike(size_t server);
  // A server was put aside: others are asked for what it has not answered.
  void Rescue(size_t server);
  static RowScatter ScatterOf(const Part& part);

  const ClientOptions& options_;
  Listener* const listener_;
  StatsCounters stats_;
  absl::Time ended_at_;  // when the last attempt that has ended did
  SecondRequestBudget hedge_budget_;
  SecondRequestBudget refused_budget_;  // of what a server had no room for
  std::priority_queue<SecondRequest> due_;
  std::vector<Lane*> unsent_;
  uint64_t next_request_id_ = 1;
  std::minstd_rand random_;
  std::vector<uint8_t> row_;  // scratch
  ServerSet servers_;         // last: its links refer to all of the above
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_DISPATCH_H_

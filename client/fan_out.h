// The work of the I/O thread: a lookup's row ids go out to the servers that hold them, and what
// comes back goes to its place. Stages, in the order of FanOut::Start: ids or hash, plan, dispatch;
// then, when all parts are over, finish the layer.
#ifndef ENGRAM_CLIENT_FAN_OUT_H_
#define ENGRAM_CLIENT_FAN_OUT_H_

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/dispatch.h"
#include "client/folder.h"
#include "client/lookup.h"
#include "client/options.h"
#include "client/shard_plan.h"

namespace engram {

// Everything but servers().connection() and WaitForConnection() is for the I/O thread alone.
class FanOut final : public Dispatch::Listener {
 public:
  FanOut(const ClientOptions& options, const ServerLink::Shared& shared, Resolver* resolver);

  // Takes a lookup whose layers will all be finished by this object.
  void Start(std::shared_ptr<Lookup> lookup);
  // Goes on with a layer that has waited for a prefetch.
  void Resume(const std::shared_ptr<Lookup>& lookup, uint32_t layer);
  // Ends a lookup early.
  void Cancel(Lookup& lookup, const absl::Status& why);
  // Moves links that are due, asks others for what takes long, ends lookups whose deadline has
  // passed. To be called at NextTick, and whenever the event loop was woken.
  void Tick(absl::Time now);
  absl::Time NextTick() const {
    return std::min({next_deadline_, dispatch_.next_tick(), NextChange()});
  }
  // Sends what the calls above have asked for.
  void Flush() { dispatch_.Flush(); }
  // Ends every lookup and gives up all links.
  void Shutdown();

  ServerSet& servers() { return dispatch_.servers(); }
  const ServerSet& servers() const { return dispatch_.servers(); }

  // Before the first lookup.
  void set_folder(std::unique_ptr<Folder> folder) { folder_ = std::move(folder); }
  Folder& folder() { return *folder_; }
  void AddTo(ClientStats& stats) const;
  // The table that lookups are started with (Lookup::table). Any thread.
  uint64_t table() const { return table_.load(std::memory_order_relaxed); }
  // Takes what servers() has; before the first lookup, and by itself when that changes.
  void TakeTable();

  // Used by SubmitTokens; set before the first lookup by token ids.
  void set_hasher(RowHasher hasher) { hasher_ = std::move(hasher); }
  const RowHasher& hasher() const { return *hasher_; }  // must have been set

 private:
  void OnPartFailed(const Part& part, const absl::Status& why) override;
  void OnPartOver(const Part& part) override;
  void OnAnswered() override;

  // A lookup is of one table as a whole. When the servers have another active one, lookups wait
  // until those under way are over; then all begin with the new one.
  void Begin(std::shared_ptr<Lookup> lookup);
  void ChangeTable(absl::Time now);
  void ChangeTableIfQuiet();
  void BeginWaiting();
  absl::Time NextChange() const;

  // Takes in what has come, so that servers need not wait while a large layer is made ready: their
  // answers fill a socket in two milliseconds. Not inside of what changes lanes.
  void TakeIn(const LookupLayer& layer);
  void CopyHits(const LookupLayer& layer);
  void StartLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);
  absl::Status SendLayer(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);
  absl::Status Plan(const Lookup& lookup, LookupLayer& layer);
  // Notes that rows [begin, end) of the layer's plan will not come.
  void NoteMissing(const Lookup& lookup, LookupLayer& layer, size_t begin, size_t end);
  // The end of a part, or of a layer's start: the last one finishes the layer, unless it is.
  void EndPart(Lookup& lookup, LookupLayer& layer);
  // Puts zeros where tokens miss rows.
  void Degrade(Lookup& lookup, LookupLayer& layer);
  void EndOverdue(absl::Time now);
  void EndOverdueLayer(Lookup& lookup, LookupLayer& layer);
  void FinishLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& status);
  // FinishLayer with a failure; what is in flight of the layer is cancelled.
  void FailLayer(Lookup& lookup, LookupLayer& layer, const absl::Status& why);
  void CountEnd(const Lookup& lookup);
  // Calls back for lookups that have come to their end. Last in whatever may have ended one: what
  // is called may submit, and what was touched before may be gone.
  void CallBack();

  EventLoop* const loop_;
  Dispatch dispatch_;
  std::optional<RowHasher> hasher_;
  std::unique_ptr<Folder> folder_;
  std::vector<std::shared_ptr<Lookup>> active_;          // each knows its place
  std::vector<std::shared_ptr<Lookup>> ended_;           // to be called back
  absl::Time next_deadline_ = absl::InfiniteFuture();    // not later than any active lookup's
  std::vector<std::unique_ptr<ShardPlan>> spare_plans_;  // their vectors keep their memory
  bool shutdown_ = false;

  std::atomic<uint64_t> table_{0};
  bool changing_ = false;                         // lookups wait for those under way
  std::vector<std::shared_ptr<Lookup>> waiting_;  // not yet begun
  absl::Time change_until_;                       // then they wait no longer
  absl::Time change_after_ = absl::InfinitePast();
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_FAN_OUT_H_

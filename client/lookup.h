// One submitted lookup: shared by its ticket (which waits) and the I/O thread (which works).
#ifndef ENGRAM_CLIENT_LOOKUP_H_
#define ENGRAM_CLIENT_LOOKUP_H_

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/shard_plan.h"
#include "proto/base/mutex.h"

namespace engram {

// Invariants
// 1. Everything but `done`, `status` and what is const after Submit belongs to the I/O thread.
// 2. A layer's buffer is written by the I/O thread alone, and only while the layer is not done.
// 3. `status` is written before `done` becomes true, and never after.
// 4. Every lookup that was submitted gets all its layers done: by answers, its deadline, a cancel
//    or the client's end. Then on_done is called, once.
struct LookupLayer {
  LookupLayer() = default;
  LookupLayer(const LookupLayer&) = delete;

  uint32_t layer = 0;
  size_t index = 0;              // place in Geometry::layers()
  std::span<const int64_t> ids;  // the caller's, or hashed_ids
  std::vector<int64_t> hashed_ids;
  std::span<uint8_t> out;
  std::unique_ptr<ShardPlan> plan;  // null: the ids go to one segment, in their order
  size_t requests = 0;              // parts that are not yet over, whatever has become of the layer
  std::vector<bool> missing;        // [tokens], where rows of one could not be had; empty: none

  absl::Status status;
  std::atomic<bool> done{false};
};

class Lookup;

// Where a lookup was submitted.
class LookupOwner {
 public:
  virtual ~LookupOwner() = default;
  // Ends the lookup early. Any thread.
  virtual void Cancel(std::shared_ptr<Lookup> lookup) = 0;
};

class Lookup {
 public:
  explicit Lookup(size_t layers) : layers_(layers), layers_left_(layers) {}

  std::vector<LookupLayer>& layers() { return layers_; }

  // I/O thread: the layer's one end. True: it was the lookup's last layer.
  bool Finish(LookupLayer& layer, absl::Status status);
  // I/O thread, when all layers are done.
  void CallBack();

  // Caller's thread: see Ticket.
  absl::Status Wait(uint32_t layer, absl::Time deadline);
  absl::Status WaitAll(absl::Time deadline);
  bool Done(uint32_t layer) const;
  bool AllDone() const;
  // Waits until all layers are done and on_done has returned; where it is this thread that is in an
  // on_done, for the layers alone.
  void WaitUntilOver();
  // Nothing will happen any more.
  bool over() const { return over_.load(std::memory_order_acquire); }

  // This is a child of the process that submitted it.
  bool forked() const { return getpid() != process; }

  // Const after Submit.
  LookupOwner* owner = nullptr;
  pid_t process = 0;
  absl::Time deadline;
  absl::Duration timeout;
  LookupPriority priority = LookupPriority::kDecode;
  absl::Duration spin;
  MissingRows on_missing = MissingRows::kFail;
  std::span<uint8_t> degraded;  // [tokens]
  std::function<void(const absl::Status&)> on_done;

  // Of a lookup by token ids.
  std::vector<uint32_t> compressed;
  std::span<const uint8_t> dead;
  LookBack before;

  size_t active_index = 0;  // the I/O thread's: its place among those that are not over

 private:
  absl::Status WaitFor(LookupLayer& layer, absl::Time deadline);

  std::vector<LookupLayer> layers_;
  size_t layers_left_;
  std::atomic<bool> over_{false};
  Mutex mutex_;
  CondVar changed_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_LOOKUP_H_

// One submitted lookup: shared by its ticket (which waits) and the I/O thread (which works).
#ifndef ENGRAM_CLIENT_LOOKUP_H_
#define ENGRAM_CLIENT_LOOKUP_H_

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/row_source.h"
#include "client/row_target.h"
#include "client/shard_plan.h"
#include "client/stats.h"
#include "client/step.h"
#include "proto/base/mutex.h"

namespace engram {

class Lookup;
struct LookupChunk;

// Invariants
// 1. Everything but `done`, `status`, `waiters` and what is const after Submit belongs to the I/O
//    thread, and before Submit to whoever submits.
// 2. A layer's buffer is written by whom the lookup belongs to, and only while the layer is not
//    done.
// 3. `status` is written before `done` becomes true, and never after.
// 4. Every lookup that was submitted gets all its layers done: by answers, its deadline, a cancel
//    or the client's end. Then on_done is called, once.
// 5. A layer's word, where it has one, is written once, after its rows and before `done`. It says
//    error only over rows that are zeros.
struct LookupLayer {
  LookupLayer() = default;
  LookupLayer(const LookupLayer&) = delete;

  // Const after Submit.
  uint32_t layer = 0;
  size_t index = 0;  // place in Geometry::layers()
  RowTarget target;
  size_t rows = 0;           // positions of the target
  uint64_t* word = nullptr;  // 8-byte aligned; null: nobody looks at one
  std::optional<GivenIds> given;
  LayerWaits* waits = nullptr;  // the client's; null: nobody counts

  std::span<const int64_t> ids;  // the caller's, or own_ids
  std::vector<int64_t> own_ids;
  std::vector<const LookupChunk*> copies;  // chunks whose rows a prefetch has, ascending
  std::vector<uint32_t> filling;           // the cache's slots that take rows of this layer
  std::unique_ptr<ShardPlan> plan;         // null: the ids go to one segment, in their order
  uint8_t* cache_rows = nullptr;           // where the plan's copies for the cache go
  size_t requests = 0;  // that are not yet over, whatever has become of the layer

  // Of its parts that are over, when the first and the last one was.
  size_t parts_over = 0;
  absl::Time first_over, last_over;

  std::vector<bool> missing;  // [tokens], where rows of one could not be had; empty: none

  std::vector<std::shared_ptr<Lookup>> waiters;  // guarded by the lookup's mutex
  absl::Status status;
  std::atomic<bool> done{false};
};

// Tokens [begin, begin + tokens) of a lookup by token ids.
struct LookupChunk {
  size_t begin = 0;
  size_t tokens = 0;
  TokenRun run;  // unless they were fetched ahead
  std::shared_ptr<Lookup> ahead = nullptr;
  size_t first = 0;  // token of `ahead`
};

// Memory that a lookup owns: a prefetch's rows. Counted in a budget while it lives.
class PrefetchMemory {
 public:
  // Null where the budget, whose bytes in use are `*used`, does not hold `bytes` more.
  static std::unique_ptr<PrefetchMemory> Take(std::shared_ptr<std::atomic<uint64_t>> used,
                                              uint64_t bytes, uint64_t budget);
  ~PrefetchMemory() { used_->fetch_sub(bytes_); }
  uint8_t* rows() { return rows_.get(); }
  uint64_t bytes() const { return bytes_; }

 private:
  PrefetchMemory(std::shared_ptr<std::atomic<uint64_t>> used, uint64_t bytes);

  const std::shared_ptr<std::atomic<uint64_t>> used_;
  const uint64_t bytes_;
  const std::unique_ptr<uint8_t[]> rows_;
};

// Where a lookup was submitted.
class LookupOwner {
 public:
  virtual ~LookupOwner() = default;
  // Ends the lookup early. Any thread.
  virtual void Cancel(std::shared_ptr<Lookup> lookup) = 0;
  // What a layer has waited for has come to its end. Any thread.
  virtual void Resume(std::shared_ptr<Lookup> lookup, uint32_t layer) = 0;
  // The table that lookups started now are of: see Lookup::table. Any thread.
  virtual uint64_t table() const = 0;
};

class Lookup : public std::enable_shared_from_this<Lookup> {
 public:
  explicit Lookup(size_t layers) : layers_(layers), layers_left_(layers) {}

  std::vector<LookupLayer>& layers() { return layers_; }
  const std::vector<LookupLayer>& layers() const { return layers_; }

  // By whom the lookup belongs to: the layer's one end. True: it was the lookup's last layer.
  bool Finish(LookupLayer& layer, absl::Status status);
  // I/O thread, when all layers are done.
  void CallBack();

  // Caller's thread: see Ticket. What is held there is counted, but for prefetches.
  absl::Status Wait(uint32_t layer, absl::Time deadline);
  absl::Status WaitAll(absl::Time deadline);
  bool Done(uint32_t layer) const;
  bool AllDone() const;
  // AllDone, and no word is still to be written. Waits for moments alone.
  bool AllWritten();
  // Ends what is outstanding; does not wait for it. Any thread, by the lookup's holder.
  void Drop();
  // Waits until all layers are done and on_done has returned; where it is this thread that is in an
  // on_done, for the layers alone.
  void WaitUntilOver();
  // Nothing will happen any more.
  bool over() const { return over_.load(std::memory_order_acquire); }

  // Null where the lookup has no such layer.
  LookupLayer* FindLayer(uint32_t layer);
  // The chunk of token `token`, the last one for the end. Of a lookup that has chunks.
  const LookupChunk& ChunkAt(size_t token) const;
  // Has `step` resumed when the layer, one of this lookup, is done. False: it is.
  bool AddWaiter(LookupLayer& layer, std::shared_ptr<Lookup> step);

  // This is a child of the process that submitted it.
  bool forked() const { return getpid() != process; }

  // Const after Submit. The owner lives as long as anything that may call it.
  std::shared_ptr<LookupOwner> owner;
  pid_t process = getpid();
  absl::Time submitted;
  absl::Time deadline;
  absl::Duration timeout;
  LookupPriority priority = LookupPriority::kDecode;
  absl::Duration spin;
  std::function<void(const absl::Status&)> on_done;
  MissingRows missing = MissingRows::kFail;
  std::span<uint8_t> degraded;
  ColumnRange columns;  // of a token, one position each

  // Of a lookup by token ids.
  std::vector<LookupChunk> chunks;
  std::vector<uint32_t> compressed;  // what the chunks refer to
  std::vector<uint8_t> dead;         // and of a prefetch
  std::unique_ptr<PrefetchMemory> memory;

  // The generation that its rows are of, all of them: the front of its digest. Set when it starts.
  uint64_t table = 0;
  bool fills_cache = false;  // for that alone: it says nothing of what is asked for

  // Nobody wants it any more: if it has not been started, it need not be.
  std::atomic<bool> dropped{false};

  size_t active_index = 0;  // the I/O thread's: its place among those that are not over

 private:
  absl::Status WaitFor(LookupLayer& layer, absl::Time deadline);
  // The same of a caller, whose wait is counted.
  absl::Status Hold(LookupLayer& layer, absl::Time deadline);

  std::vector<LookupLayer> layers_;
  size_t layers_left_;
  std::atomic<bool> over_{false};
  Mutex mutex_;
  CondVar changed_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_LOOKUP_H_

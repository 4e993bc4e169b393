// One submitted lookup: shared by its ticket (which waits) and the I/O thread (which works).
#ifndef ENGRAM_CLIENT_LOOKUP_H_
#define ENGRAM_CLIENT_LOOKUP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "proto/base/mutex.h"

namespace engram {

// Invariants
// 1. Everything but `done`, `status` and what is const after Submit belongs to the I/O thread.
// 2. A layer's buffer is written by the I/O thread alone, and only while the layer is not done.
// 3. `status` is written before `done` becomes true, and never after.
// 4. Every lookup that was submitted gets all its layers done: by answers, its deadline, a cancel
//    or the client's end.
struct LookupLayer {
  LookupLayer() = default;
  LookupLayer(const LookupLayer&) = delete;

  uint32_t layer = 0;
  size_t index = 0;              // place in Geometry::layers()
  std::span<const int64_t> ids;  // the caller's, or hashed_ids
  std::vector<int64_t> hashed_ids;
  std::span<uint8_t> out;
  size_t requests_left = 0;  // requests without their last answer

  absl::Status status;
  std::atomic<bool> done{false};
};

class Lookup {
 public:
  explicit Lookup(size_t layers) : layers_(layers) {}

  std::vector<LookupLayer>& layers() { return layers_; }

  // I/O thread: the layer's one end.
  void Finish(LookupLayer& layer, absl::Status status);
  bool AllDone() const;

  // Caller's thread: see Ticket.
  absl::Status Wait(uint32_t layer, absl::Time deadline);
  absl::Status WaitAll(absl::Time deadline);
  bool Done(uint32_t layer) const;

  // Const after Submit.
  absl::Time deadline;
  absl::Duration timeout;
  LookupPriority priority = LookupPriority::kDecode;
  absl::Duration spin;
  std::function<void()> cancel;  // asks the I/O thread to end the lookup; any thread

  // Of a lookup by token ids.
  std::vector<uint32_t> compressed;
  std::span<const uint8_t> dead;
  LookBack before;

 private:
  absl::Status WaitFor(LookupLayer& layer, absl::Time deadline);

  std::vector<LookupLayer> layers_;
  Mutex mutex_;
  CondVar done_changed_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_LOOKUP_H_

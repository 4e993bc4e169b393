// The requests that took longest of late.
#ifndef ENGRAM_SERVICE_SLOW_REQUESTS_H_
#define ENGRAM_SERVICE_SLOW_REQUESTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/base/mutex.h"

namespace engram {

struct SlowRequest {
  uint64_t id = 0;  // the client's
  std::string peer = {};
  uint32_t layer = 0;
  uint64_t rows = 0;
  bool prefill = false;
  int64_t received_ns = 0;  // Unix time
  int64_t queue_ns = 0;     // then it waited so long,
  int64_t gather_ns = 0;    // was gathered
  int64_t send_ns = 0;      // and sent

  int64_t took_ns() const { return queue_ns + gather_ns + send_ns; }
};
std::string ToString(const SlowRequest& request);

// Those of one thread, of the minute under way and the one before. Written by that thread, read by
// any.
class SlowRequests {
 public:
  static constexpr size_t kKept = 16;  // a minute

  // Whether Add would keep a request: two comparisons.
  bool IsSlow(int64_t took_ns, int64_t now_ns) const {
    return took_ns > threshold_ns_ || now_ns >= minute_end_ns_;
  }
  void Add(SlowRequest request, int64_t now_ns);

  // Appends what is kept.
  void AddTo(std::vector<SlowRequest>& all, int64_t now_ns) const;

 private:
  // Of the thread that writes.
  int64_t threshold_ns_ = -1;  // the shortest of a full list; else all are kept
  int64_t minute_end_ns_ = 0;
  mutable Mutex mutex_;
  std::vector<SlowRequest> now_ ABSL_GUARDED_BY(mutex_), before_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_SLOW_REQUESTS_H_

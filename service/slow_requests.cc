#include "service/slow_requests.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace engram {
namespace {

constexpr int64_t kMinuteNs = 60'000'000'000;

bool Longer(const SlowRequest& a, const SlowRequest& b) { return a.took_ns() > b.took_ns(); }

double Ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

}  // namespace

std::string ToString(const SlowRequest& request) {
  return absl::StrFormat(
      "request %d of %s at %s: %d rows of layer %d, %s, %.3f ms: queue %.3f, gather %.3f, send "
      "%.3f",
      request.id, request.peer,
      absl::FormatTime("%H:%M:%E6S", absl::FromUnixNanos(request.received_ns), absl::UTCTimeZone()),
      request.rows, request.layer, request.prefill ? "prefill" : "decode", Ms(request.took_ns()),
      Ms(request.queue_ns), Ms(request.gather_ns), Ms(request.send_ns));
}

// A heap whose front is the shortest.
void SlowRequests::Add(SlowRequest request, int64_t now_ns) {
  MutexLock lock(&mutex_);
  if (now_ns >= minute_end_ns_) {
    const bool fresh = now_ns < minute_end_ns_ + kMinuteNs;
    before_ = fresh ? std::move(now_) : std::vector<SlowRequest>();
    now_.clear();
    minute_end_ns_ = now_ns + kMinuteNs;
  }
  if (now_.size() == kKept) {
    std::pop_heap(now_.begin(), now_.end(), Longer);
    now_.pop_back();
  }
  now_.push_back(std::move(request));
  std::push_heap(now_.begin(), now_.end(), Longer);
  threshold_ns_ = now_.size() < kKept ? -1 : now_.front().took_ns();
}

void SlowRequests::AddTo(std::vector<SlowRequest>& all, int64_t now_ns) const {
  MutexLock lock(&mutex_);
  for (const auto* list : {&now_, &before_}) {
    for (const SlowRequest& request : *list) {
      if (request.received_ns > now_ns - 2 * kMinuteNs) all.push_back(request);
    }
  }
}

}  // namespace engram

#include "service/startup.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"

namespace engram {

void Startup::Enter(StartupState state) {
  const absl::Time now = absl::Now();
  {
    MutexLock lock(&mutex_);
    state_ = state;
    entered_ = now;
    done_before_ = progress_.done_bytes;
  }
  if (log_) {
    log_(absl::StrFormat("state %s, %.2f s after the start",
                         kStartupStates[static_cast<size_t>(state)],
                         absl::ToDoubleSeconds(now - start_)));
  }
}

StartupState Startup::state() const {
  MutexLock lock(&mutex_);
  return state_;
}

double Startup::ratio() const {
  if (state() == StartupState::kServing) return 1;
  const double total = static_cast<double>(progress_.total_bytes);
  return total == 0 ? 0 : std::min(1.0, static_cast<double>(progress_.done_bytes) / total);
}

double Startup::remaining_seconds() const {
  MutexLock lock(&mutex_);
  if (state_ == StartupState::kServing) return 0;
  const uint64_t total = progress_.total_bytes, done = progress_.done_bytes;
  if (done <= done_before_) return std::numeric_limits<double>::quiet_NaN();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - entered_);
  return static_cast<double>(total - std::min(done, total)) * seconds /
         static_cast<double>(done - done_before_);
}

absl::Duration Startup::took() const {
  MutexLock lock(&mutex_);
  return (state_ == StartupState::kServing ? entered_ : absl::Now()) - start_;
}

}  // namespace engram

// Polling for a bounded time before sleeping.
#ifndef ENGRAM_PROTO_BASE_SPIN_H_
#define ENGRAM_PROTO_BASE_SPIN_H_

#include <sched.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace engram {

// Calls `done` until it says true or `spin` has passed, at least once if `spin` is positive; what
// it said last. Offers the core to other threads between two calls: where there are fewer cores
// than pollers, whoever has work would otherwise wait until a poller goes to sleep.
template <typename Done>
bool SpinUntil(absl::Duration spin, Done done) {
  if (spin <= absl::ZeroDuration()) return false;
  const absl::Time until = absl::Now() + spin;
  do {
    if (done()) return true;
    sched_yield();
  } while (absl::Now() < until);
  return false;
}

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_SPIN_H_

#include "client/lookup.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace engram {

void Lookup::Finish(LookupLayer& layer, absl::Status status) {
  MutexLock lock(&mutex_);
  if (layer.done.load(std::memory_order_relaxed)) return;
  layer.status = std::move(status);
  layer.done.store(true, std::memory_order_release);
  done_changed_.NotifyAll();
}

bool Lookup::AllDone() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const LookupLayer& layer) {
    return layer.done.load(std::memory_order_acquire);
  });
}

absl::Status Lookup::WaitFor(LookupLayer& layer, absl::Time deadline) {
  if (spin > absl::ZeroDuration()) {
    const absl::Time until = std::min(deadline, absl::Now() + spin);
    while (!layer.done.load(std::memory_order_acquire) && absl::Now() < until) {
    }
  }
  if (!layer.done.load(std::memory_order_acquire)) {
    MutexLock lock(&mutex_);
    while (!layer.done.load(std::memory_order_relaxed)) {
      if (!done_changed_.WaitUntil(&mutex_, deadline) &&
          !layer.done.load(std::memory_order_relaxed)) {
        return absl::DeadlineExceededError(
            absl::StrCat("rows of layer ", layer.layer, " are not there yet"));
      }
    }
  }
  return layer.status;
}

absl::Status Lookup::Wait(uint32_t layer, absl::Time deadline) {
  for (LookupLayer& candidate : layers_) {
    if (candidate.layer == layer) return WaitFor(candidate, deadline);
  }
  return absl::NotFoundError(absl::StrCat("this lookup has no layer ", layer));
}

absl::Status Lookup::WaitAll(absl::Time deadline) {
  absl::Status first;
  for (LookupLayer& layer : layers_) first.Update(WaitFor(layer, deadline));
  return first;
}

bool Lookup::Done(uint32_t layer) const {
  return std::any_of(layers_.begin(), layers_.end(), [&](const LookupLayer& candidate) {
    return candidate.layer == layer && candidate.done.load(std::memory_order_acquire);
  });
}

}  // namespace engram

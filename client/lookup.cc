#include "client/lookup.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram {
namespace {

thread_local bool in_callback = false;

}  // namespace

bool Lookup::Finish(LookupLayer& layer, absl::Status status) {
  {
    MutexLock lock(&mutex_);
    layer.status = std::move(status);
    layer.done.store(true, std::memory_order_release);
    changed_.NotifyAll();
  }
  return --layers_left_ == 0;
}

void Lookup::CallBack() {
  if (on_done) {
    absl::Status first;
    for (const LookupLayer& layer : layers_) first.Update(layer.status);
    in_callback = true;
    on_done(first);
    in_callback = false;
  }
  MutexLock lock(&mutex_);
  over_.store(true, std::memory_order_release);
  changed_.NotifyAll();
}

absl::Status Lookup::WaitFor(LookupLayer& layer, absl::Time deadline) {
  if (spin > absl::ZeroDuration()) {
    const absl::Time until = std::min(deadline, absl::Now() + spin);
    while (!layer.done.load(std::memory_order_acquire) && absl::Now() < until) {
    }
  }
  if (!layer.done.load(std::memory_order_acquire)) {
    if (forked()) {
      return absl::FailedPreconditionError(
          "the lookup was submitted by the process that this one was forked from");
    }
    MutexLock lock(&mutex_);
    while (!layer.done.load(std::memory_order_relaxed)) {
      if (!changed_.WaitUntil(&mutex_, deadline) && !layer.done.load(std::memory_order_relaxed)) {
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

void Lookup::WaitUntilOver() {
  WaitAll(absl::InfiniteFuture()).IgnoreError();
  if (in_callback) return;
  MutexLock lock(&mutex_);
  while (!over_.load(std::memory_order_relaxed)) changed_.Wait(&mutex_);
}

bool Lookup::AllDone() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const LookupLayer& layer) {
    return layer.done.load(std::memory_order_acquire);
  });
}

bool Lookup::Done(uint32_t layer) const {
  return std::any_of(layers_.begin(), layers_.end(), [&](const LookupLayer& candidate) {
    return candidate.layer == layer && candidate.done.load(std::memory_order_acquire);
  });
}

}  // namespace engram

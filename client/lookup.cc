#include "client/lookup.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/spin.h"

namespace engram {
namespace {

thread_local bool in_callback = false;

}  // namespace

std::unique_ptr<PrefetchMemory> PrefetchMemory::Take(std::shared_ptr<std::atomic<uint64_t>> used,
                                                     uint64_t bytes, uint64_t budget) {
  uint64_t before = used->load();
  do {
    if (bytes > budget || before > budget - bytes) return nullptr;
  } while (!used->compare_exchange_weak(before, before + bytes));
  return std::unique_ptr<PrefetchMemory>(new PrefetchMemory(std::move(used), bytes));
}

PrefetchMemory::PrefetchMemory(std::shared_ptr<std::atomic<uint64_t>> used, uint64_t bytes)
    : used_(std::move(used)), bytes_(bytes), rows_(new uint8_t[bytes]) {}

bool Lookup::Finish(LookupLayer& layer, absl::Status status) {
  const bool ok = status.ok();
  if (layer.word != nullptr && !ok) layer.target.ZeroPlaces(0, layer.rows);
  if (layer.target.stream) StreamFence();
  if (layer.word != nullptr && layer.waits != nullptr) {
    layer.waits->word.Observe(absl::Now() - submitted);
  }
  std::vector<std::shared_ptr<Lookup>> waiters;
  {
    MutexLock lock(&mutex_);
    layer.status = std::move(status);
    if (layer.word != nullptr) {
      std::atomic_ref<uint64_t>(*layer.word)
          .store(ok ? kWordReady : kWordError, std::memory_order_release);
    }
    layer.done.store(true, std::memory_order_release);
    waiters.swap(layer.waiters);
    changed_.NotifyAll();
  }
  for (std::shared_ptr<Lookup>& step : waiters) {
    const std::shared_ptr<LookupOwner> its_owner = step->owner;
    its_owner->Resume(std::move(step), layer.layer);
  }
  return --layers_left_ == 0;
}

LookupLayer* Lookup::FindLayer(uint32_t layer) {
  for (LookupLayer& candidate : layers_) {
    if (candidate.layer == layer) return &candidate;
  }
  return nullptr;
}

const LookupChunk& Lookup::ChunkAt(size_t token) const {
  const auto behind =
      std::upper_bound(chunks.begin(), chunks.end(), token,
                       [](size_t at, const LookupChunk& chunk) { return at < chunk.begin; });
  return *std::prev(behind);
}

bool Lookup::AddWaiter(LookupLayer& layer, std::shared_ptr<Lookup> step) {
  MutexLock lock(&mutex_);
  if (layer.done.load(std::memory_order_relaxed)) return false;
  layer.waiters.push_back(std::move(step));
  return true;
}

void Lookup::CallBack() {
  if (on_done) {
    absl::Status first;
    for (const LookupLayer& layer : layers_) first.Update(layer.status);
    in_callback = true;
    on_done(first);
    in_callback = false;
  }
  for (LookupChunk& chunk : chunks) chunk.ahead.reset();  // Its memory, where nobody else has it.
  MutexLock lock(&mutex_);
  over_.store(true, std::memory_order_release);
  changed_.NotifyAll();
}

absl::Status Lookup::WaitFor(LookupLayer& layer, absl::Time deadline) {
  const auto done = [&] { return layer.done.load(std::memory_order_acquire); };
  if (!done() && !SpinUntil(std::min(spin, deadline - absl::Now()), done)) {
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

absl::Status Lookup::Hold(LookupLayer& layer, absl::Time deadline) {
  // A prefetch is waited for by nobody whose time counts.
  if (layer.waits == nullptr || memory != nullptr) return WaitFor(layer, deadline);
  if (layer.done.load(std::memory_order_acquire)) {
    layer.waits->stall.Observe(uint64_t{0});
    return layer.status;
  }
  const absl::Time begin = absl::Now();
  const absl::Status status = WaitFor(layer, deadline);
  layer.waits->stall.Observe(absl::Now() - begin);
  return status;
}

absl::Status Lookup::Wait(uint32_t layer, absl::Time deadline) {
  LookupLayer* const found = FindLayer(layer);
  if (found != nullptr) return Hold(*found, deadline);
  return absl::NotFoundError(absl::StrCat("this lookup has no layer ", layer));
}

absl::Status Lookup::WaitAll(absl::Time deadline) {
  absl::Status first;
  for (LookupLayer& layer : layers_) first.Update(Hold(layer, deadline));
  return first;
}

void Lookup::Drop() {
  if (AllDone() || forked()) return;  // Nobody is there to hear it, and its locks may be held.
  dropped.store(true, std::memory_order_relaxed);
  owner->Cancel(shared_from_this());
}

void Lookup::WaitUntilOver() {
  for (LookupLayer& layer : layers_) WaitFor(layer, absl::InfiniteFuture()).IgnoreError();
  if (in_callback) return;
  MutexLock lock(&mutex_);
  while (!over_.load(std::memory_order_relaxed)) changed_.Wait(&mutex_);
}

bool Lookup::AllDone() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const LookupLayer& layer) {
    return layer.done.load(std::memory_order_acquire);
  });
}

bool Lookup::AllWritten() {
  MutexLock lock(&mutex_);  // A word and its `done` are written under it.
  return AllDone();
}

bool Lookup::Done(uint32_t layer) const {
  return std::any_of(layers_.begin(), layers_.end(), [&](const LookupLayer& candidate) {
    return candidate.layer == layer && candidate.done.load(std::memory_order_acquire);
  });
}

}  // namespace engram

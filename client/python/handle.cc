#include "client/python/handle.h"

#include <pthread.h>

#include <atomic>
#include <utility>

namespace engram::python {
namespace {

std::atomic<int> forks{0};

}  // namespace

int ForkGeneration() { return forks.load(std::memory_order_relaxed); }

void WatchForks() {
  pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}

void Handle::Close() {
  const bool forked = mutex_.forked();
  WithoutGil([&] {
    const std::unique_lock lock(mutex_);
    client_ = client::Client();
    if (log_ != nullptr && !forked) log_->Close();
  });
}

}  // namespace engram::python

// What becomes of a store while it serves.
#ifndef ENGRAM_STORAGE_STORE_STATE_H_
#define ENGRAM_STORAGE_STORE_STATE_H_

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "proto/base/mutex.h"

namespace engram {

// How far rows have been verified since the load, and whether they were found to be lost. Any
// thread.
class StoreState {
 public:
  // The first failure that was reported; it stays: rows that were wrong once are not served again.
  absl::Status failure() const {
    if (!failed()) return absl::OkStatus();
    MutexLock lock(&mutex_);
    return failure_;
  }
  bool failed() const { return failed_.load(std::memory_order_acquire); }

  // Reports a failure (not OK). Calls the listener, once, from this thread.
  void Fail(const absl::Status& why) {
    std::function<void()> listener;
    {
      MutexLock lock(&mutex_);
      if (failed()) return;
      failure_ = why;
      failed_.store(true, std::memory_order_release);
      listener = listener_;
    }
    if (listener) listener();
  }

  // Who wants to know; called at once where the failure is there already. Null: nobody any more,
  // but a call may still be under way.
  void Listen(std::function<void()> listener) {
    {
      MutexLock lock(&mutex_);
      listener_ = listener;
      if (!failed()) return;
    }
    if (listener) listener();
  }

  // Verification: rows of the pass under way, and passes over all rows that are done.
  std::atomic<uint64_t> verified_rows{0};
  std::atomic<uint64_t> verified_passes{0};
  // Rows, or blocks of them, that were found to differ from their checksums or sums.
  std::atomic<uint64_t> checksum_failures{0};

 private:
  std::atomic<bool> failed_{false};
  mutable Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> listener_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_STORE_STATE_H_

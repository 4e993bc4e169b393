#include "storage/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "proto/base/mutex.h"

namespace engram {
namespace {

class Progress {
 public:
  Progress(uint64_t total_bytes, const ParallelOptions& options)
      : total_bytes_(total_bytes), options_(options) {
    if (options_.progress != nullptr) options_.progress->total_bytes += total_bytes;
  }

  void Add(uint64_t bytes) {
    if (options_.progress != nullptr) options_.progress->done_bytes += bytes;
    MutexLock lock(&mutex_);
    done_bytes_ += bytes;
    const absl::Time now = absl::Now();
    if (options_.log == nullptr || now - last_line_ < options_.log_every) return;
    last_line_ = now;
    const double seconds = absl::ToDoubleSeconds(now - start_);
    const double rate = static_cast<double>(done_bytes_) / seconds;
    const double left = static_cast<double>(total_bytes_ - std::min(done_bytes_, total_bytes_));
    options_.log(absl::StrFormat("%s: %.0f %% of %.2f GB, %.2f GB/s, %.0f s left", options_.what,
                                 100.0 * static_cast<double>(done_bytes_) /
                                     static_cast<double>(std::max<uint64_t>(1, total_bytes_)),
                                 static_cast<double>(total_bytes_) / 1e9, rate / 1e9, left / rate));
  }

  void Done() {
    MutexLock lock(&mutex_);
    if (options_.log == nullptr) return;
    options_.log(absl::StrFormat("%s: %.2f GB in %.2f s", options_.what,
                                 static_cast<double>(done_bytes_) / 1e9,
                                 absl::ToDoubleSeconds(absl::Now() - start_)));
  }

 private:
  const uint64_t total_bytes_;
  const ParallelOptions& options_;
  const absl::Time start_ = absl::Now();
  Mutex mutex_;
  absl::Time last_line_ ABSL_GUARDED_BY(mutex_) = start_;
  uint64_t done_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::Status ForEachInParallel(
    uint64_t count, uint64_t total_bytes, const ParallelOptions& options,
    const std::function<absl::Status(uint64_t i, uint64_t& bytes)>& work) {
  Progress progress(total_bytes, options);
  std::atomic<uint64_t> next{0};
  Mutex mutex;
  absl::Status first;
  const auto run = [&] {
    for (uint64_t i = next++; i < count; i = next++) {
      uint64_t bytes = 0;
      const absl::Status status = work(i, bytes);
      if (!status.ok()) {
        next = count;
        MutexLock lock(&mutex);
        first.Update(status);
        return;
      }
      progress.Add(bytes);
    }
  };
  const uint64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const uint64_t threads = std::min(count, options.threads != 0 ? options.threads : cores);
  std::vector<std::thread> pool;
  for (uint64_t t = 1; t < threads; ++t) pool.emplace_back(run);
  run();
  for (std::thread& thread : pool) thread.join();
  if (first.ok()) progress.Done();
  return first;
}

}  // namespace engram

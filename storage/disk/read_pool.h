// Threads that wait for a disk.
#ifndef ENGRAM_STORAGE_DISK_READ_POOL_H_
#define ENGRAM_STORAGE_DISK_READ_POOL_H_

#include <array>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "proto/base/mutex.h"

namespace engram {

// Threads "engram-read". Work that is urgent is taken first; within a kind, in its order.
class ReadPool {
 public:
  using Work = std::function<void()>;

  explicit ReadPool(uint32_t threads);
  // Does what was added, then ends.
  ~ReadPool();

  uint32_t threads() const { return static_cast<uint32_t>(threads_.size()); }
  // Any thread.
  void Add(std::vector<Work> work, bool urgent);

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::array<std::deque<Work>, 2> waiting_ ABSL_GUARDED_BY(mutex_);  // the urgent first
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_READ_POOL_H_

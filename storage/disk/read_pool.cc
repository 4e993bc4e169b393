#include "storage/disk/read_pool.h"

#include <pthread.h>

#include <utility>

namespace engram {

ReadPool::ReadPool(uint32_t threads) {
  for (uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ReadPool::~ReadPool() {
  {
    MutexLock lock(&mutex_);
    over_ = true;
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ReadPool::Add(std::vector<Work> work, bool urgent) {
  MutexLock lock(&mutex_);
  for (Work& one : work) {
    waiting_[urgent ? 0 : 1].push_back(std::move(one));
    changed_.NotifyOne();
  }
}

void ReadPool::Run() {
  pthread_setname_np(pthread_self(), "engram-read");
  while (true) {
    Work work;
    {
      MutexLock lock(&mutex_);
      while (waiting_[0].empty() && waiting_[1].empty()) {
        if (over_) return;
        changed_.Wait(&mutex_);
      }
      std::deque<Work>& queue = waiting_[waiting_[0].empty() ? 1 : 0];
      work = std::move(queue.front());
      queue.pop_front();
    }
    work();
  }
}

}  // namespace engram

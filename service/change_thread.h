// The thread that changes of what is held are made on: they write to disk and take their time,
// which the serving threads do not have.
#ifndef ENGRAM_SERVICE_CHANGE_THREAD_H_
#define ENGRAM_SERVICE_CHANGE_THREAD_H_

#include <pthread.h>

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "proto/base/mutex.h"

namespace engram {

// Runs what it is given, in that order. Its end waits until all of it has run.
class ChangeThread {
 public:
  ChangeThread() : thread_([this] { Run(); }) {}
  ~ChangeThread() {
    Add(nullptr);
    thread_.join();
  }

  // Any thread.
  void Add(std::function<void()> work) {
    MutexLock lock(&mutex_);
    work_.push_back(std::move(work));
    added_.NotifyOne();
  }

 private:
  void Run() {
    pthread_setname_np(pthread_self(), "engram-change");
    while (true) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        while (work_.empty()) added_.Wait(&mutex_);
        work = std::move(work_.front());
        work_.pop_front();
      }
      if (work == nullptr) return;
      work();
    }
  }

  Mutex mutex_;
  CondVar added_;
  std::deque<std::function<void()>> work_ ABSL_GUARDED_BY(mutex_);  // null: the end
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_CHANGE_THREAD_H_

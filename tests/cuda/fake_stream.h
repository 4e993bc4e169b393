// The streams and events of the stand-in driver.
#ifndef ENGRAM_TESTS_CUDA_FAKE_STREAM_H_
#define ENGRAM_TESTS_CUDA_FAKE_STREAM_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

// What an event stood for when it was recorded.
class FakeMoment {
 public:
  void Come() {
    const std::lock_guard<std::mutex> lock(mutex_);
    come_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return come_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool come_ = false;
};

struct CUevent_st {
  std::mutex mutex;
  std::shared_ptr<FakeMoment> moment;  // null: never recorded, nothing to wait for
};

// A thread that does what is enqueued, in order.
struct CUstream_st {
 public:
  CUstream_st() : thread_([this] { Run(); }) {}
  ~CUstream_st() {
    Enqueue(nullptr);
    thread_.join();
  }

  void Enqueue(std::function<void()> work) {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  void Synchronize() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return idle(); });
  }
  bool IsIdle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return idle();
  }

 private:
  bool idle() const { return work_.empty() && !busy_; }
  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !work_.empty(); });
      const std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      if (work == nullptr) return;
      busy_ = true;
      lock.unlock();
      work();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool busy_ = false;
  std::thread thread_;  // last: it uses the others
};

#endif  // ENGRAM_TESTS_CUDA_FAKE_STREAM_H_

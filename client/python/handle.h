// A connected client as everything that uses it holds it, and what a fork does to it.
#ifndef ENGRAM_CLIENT_PYTHON_HANDLE_H_
#define ENGRAM_CLIENT_PYTHON_HANDLE_H_

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "client/c/engram_client.hpp"
#include "client/python/errors.h"
#include "client/python/gil.h"
#include "client/python/log.h"

namespace engram::python {

// Forks that made this process, or were made before it was watched. Any thread.
int ForkGeneration();
void WatchForks();

// A mutex whose holders a fork has left behind does not lock in the child, which has one thread of
// those that knew it.
template <typename Mutex>
class ForkedMutex {
 public:
  bool forked() const { return generation_ != ForkGeneration(); }
  void lock() {
    if (!forked()) mutex_.lock();
  }
  void unlock() {
    if (!forked()) mutex_.unlock();
  }
  void lock_shared() {
    if (!forked()) mutex_.lock_shared();
  }
  void unlock_shared() {
    if (!forked()) mutex_.unlock_shared();
  }

 private:
  const int generation_ = ForkGeneration();
  Mutex mutex_;
};

// Shared by the client's object and by its tickets, slots and prefetches: it lives until the last
// of them. All calls with the GIL, from any thread.
class Handle {
 public:
  Handle(client::Client client, std::shared_ptr<LogQueue> log)
      : client_(std::move(client)), log_(std::move(log)) {}
  ~Handle() { Close(); }

  // `call(client::Client&)` -> client::Status, without the GIL; raises what it says. EngramError
  // FAILED_PRECONDITION: in a child made by fork. CANCELLED: closed.
  template <typename Body>
  void Call(Body&& call) {
    if (mutex_.forked()) {
      Raise(ENGRAM_FAILED_PRECONDITION,
            "this process was forked from the client's: connect again here");
    }
    std::optional<client::Status> said;
    WithoutGil([&] {
      const std::shared_lock lock(mutex_);
      if (client_.get() != nullptr) said = call(client_);
    });
    if (!said) Raise(ENGRAM_CANCELLED, "the client is closed");
    Check(*said);
  }

  // Outstanding lookups fail with CANCELLED; nothing touches their buffers afterwards. Again:
  // nothing.
  void Close();

 private:
  ForkedMutex<std::shared_mutex> mutex_;  // shared: the client is in use; alone: it ends
  client::Client client_;
  const std::shared_ptr<LogQueue> log_;  // outlives the client
};

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_HANDLE_H_

// Waiting for sockets, for the one thread that handles them.
#ifndef ENGRAM_CLIENT_EVENT_LOOP_H_
#define ENGRAM_CLIENT_EVENT_LOOP_H_

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace engram {

// All but Wake is for one thread.
class EventLoop {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP. Level-triggered: what is left comes again.
    virtual void OnReady(uint32_t events) = 0;
    // Whether it goes before those that are not.
    virtual bool urgent() const = 0;
  };

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  ~EventLoop();

  // `events`: EPOLLIN, EPOLLOUT or both. Borrows `handler` until Remove; closing the descriptor
  // before that is an error. A handler must not remove others.
  absl::Status Add(int fd, uint32_t events, Handler* handler);
  void Change(int fd, uint32_t events, Handler* handler);
  void Remove(int fd);

  // Handles what is ready: everything urgent, and one turn of something that is not. Waits up to
  // `wait` for it. False: nothing was.
  bool Poll(absl::Duration wait);

  // Makes the Poll under way, or the next one, return at once. Any thread.
  void Wake();
  // Whether a Poll has returned for a Wake since this was asked last.
  bool TakeWoken() { return std::exchange(woken_, false); }

 private:
  EventLoop(int epoll, int wake) : epoll_(epoll), wake_(wake) {}

  const int epoll_;
  const int wake_;  // an eventfd
  bool woken_ = false;
  std::array<epoll_event, 64> events_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_EVENT_LOOP_H_

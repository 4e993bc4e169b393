#include "client/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <span>

namespace engram {
namespace {

constexpr absl::Duration kLongest = absl::Hours(1);

// epoll_pwait2 knows nanoseconds, but not every kernel (before 5.11) or sandbox knows it.
int WaitForEvents(int epoll, std::span<epoll_event> events, absl::Duration wait) {
  static std::atomic<bool> fine{true};
  wait = std::clamp(wait, absl::ZeroDuration(), kLongest);
  const int size = static_cast<int>(events.size());
  if (wait == absl::ZeroDuration()) return epoll_wait(epoll, events.data(), size, 0);
  if (fine.load(std::memory_order_relaxed)) {
    const timespec time = absl::ToTimespec(wait);
    const int count = epoll_pwait2(epoll, events.data(), size, &time, nullptr);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
    fine.store(false, std::memory_order_relaxed);
  }
  // Rounded up: a deadline must not be polled for before it has passed.
  return epoll_wait(
      epoll, events.data(), size,
      static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1)))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return absl::ErrnoToStatus(errno, "epoll_create1");
  const int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake < 0) {
    const int error = errno;
    close(epoll);
    return absl::ErrnoToStatus(error, "eventfd");
  }
  std::unique_ptr<EventLoop> loop(new EventLoop(epoll, wake));
  if (absl::Status status = loop->Add(wake, EPOLLIN, nullptr); !status.ok()) return status;
  return loop;
}

EventLoop::~EventLoop() {
  close(epoll_);
  close(wake_);
}

absl::Status EventLoop::Add(int fd, uint32_t events, Handler* handler) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = handler;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "epoll_ctl");
}

void EventLoop::Change(int fd, uint32_t events, Handler* handler) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = handler;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::Remove(int fd) { epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

bool EventLoop::Poll(absl::Duration wait) {
  const int count = WaitForEvents(epoll_, events_, wait);
  if (count <= 0) return false;
  const epoll_event* turn = nullptr;
  for (const epoll_event& event : std::span(events_).first(static_cast<size_t>(count))) {
    auto* const handler = static_cast<Handler*>(event.data.ptr);
    if (handler == nullptr) {
      uint64_t wakes = 0;
      while (read(wake_, &wakes, sizeof(wakes)) < 0 && errno == EINTR) {
      }
      woken_ = true;
    } else if (handler->urgent()) {
      handler->OnReady(event.events);
    } else if (turn == nullptr) {
      turn = &event;  // epoll puts those that are still ready behind the others
    }
  }
  if (turn != nullptr) static_cast<Handler*>(turn->data.ptr)->OnReady(turn->events);
  return true;
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  while (write(wake_, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

}  // namespace engram

// Waiting for sockets as both ends of the bare pair do.
#ifndef ENGRAM_TESTS_BENCH_PEERS_EPOLL_SPIN_H_
#define ENGRAM_TESTS_BENCH_PEERS_EPOLL_SPIN_H_

#include <sys/epoll.h>

#include <chrono>

namespace engram::bench {

// epoll_wait that polls for `spin` before it blocks. Returns as epoll_wait does.
inline int WaitSpinning(int epoll, epoll_event* events, int max_events,
                        std::chrono::nanoseconds spin) {
  using Clock = std::chrono::steady_clock;
  if (spin.count() > 0) {
    const Clock::time_point until = Clock::now() + spin;
    do {
      if (const int count = epoll_wait(epoll, events, max_events, 0); count != 0) return count;
    } while (Clock::now() < until);
  }
  return epoll_wait(epoll, events, max_events, -1);
}

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_EPOLL_SPIN_H_

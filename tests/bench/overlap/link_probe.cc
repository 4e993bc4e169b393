#include "tests/bench/overlap/link_probe.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "proto/base/status_macros.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPhase = std::chrono::milliseconds(300);  // of either measurement
constexpr auto kLimit = std::chrono::seconds(5);
using Message = std::array<char, 64>;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The whole message. False: the connection has ended, or nothing came for kLimit.
bool ReceiveMessage(int fd, Message& message) {
  return recv(fd, message.data(), message.size(), MSG_WAITALL) ==
         static_cast<ssize_t>(message.size());
}

void SetOptions(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  const timeval limit{kLimit.count(), 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

// Echoes messages until one begins with 's'; then sends for kPhase.
void Serve(int listener) {
  const int fd = accept(listener, nullptr, nullptr);
  if (fd < 0) return;
  const absl::Cleanup close_it = [&] { close(fd); };
  SetOptions(fd);
  Message message{};
  while (ReceiveMessage(fd, message) && message[0] != 's') {
    if (send(fd, message.data(), message.size(), MSG_NOSIGNAL) < 0) return;
  }
  const std::vector<char> block(256 << 10);
  const Clock::time_point until = Clock::now() + kPhase;
  while (Clock::now() < until && send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
  }
}

absl::Status PingPong(int fd, std::vector<double>& rtt_us) {
  Message message{};
  for (const Clock::time_point until = Clock::now() + kPhase; Clock::now() < until;) {
    const Clock::time_point start = Clock::now();
    if (send(fd, message.data(), message.size(), MSG_NOSIGNAL) < 0 ||
        !ReceiveMessage(fd, message)) {
      return absl::UnavailableError("the link carries no round trip");
    }
    rtt_us.push_back(SecondsSince(start) * 1e6);
  }
  return absl::OkStatus();
}

double Receive(int fd) {
  Message message{'s'};
  send(fd, message.data(), message.size(), MSG_NOSIGNAL);
  std::vector<char> block(256 << 10);
  const Clock::time_point start = Clock::now();
  double bytes = 0;
  for (ssize_t got = 1; got > 0;) {
    got = recv(fd, block.data(), block.size(), 0);
    if (got > 0) bytes += static_cast<double>(got);
  }
  return bytes * 1e-9 / SecondsSince(start);
}

}  // namespace

absl::StatusOr<nlohmann::json> LinkProbe::Measure() const {
  int listener = -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, address_.c_str(), &address.sin_addr);
  socklen_t size = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  bool listens = false;
  RETURN_IF_ERROR(far_([&] {
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listens = listener >= 0 && bind(listener, raw, size) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, raw, &size) == 0;
  }));
  const absl::Cleanup close_listener = [&] { close(listener); };
  if (!listens) return absl::UnavailableError("cannot listen on the link's far side");
  std::thread serving([&] { Serve(listener); });
  const absl::Cleanup join = [&] {
    shutdown(listener, SHUT_RDWR);  // ends an accept that nobody came to
    serving.join();
  };
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const absl::Cleanup close_it = [&] { close(fd); };
  SetOptions(fd);
  if (connect(fd, raw, size) != 0) return absl::ErrnoToStatus(errno, "cannot cross the link");
  std::vector<double> rtt_us;
  RETURN_IF_ERROR(PingPong(fd, rtt_us));
  const double gb_per_s = Receive(fd);
  return nlohmann::json{{"rtt_us_p50", Median(rtt_us)},
                        {"rtt_us_p99", Percentile(rtt_us, 0.99)},
                        {"gb_per_s", gb_per_s}};
}

}  // namespace engram::bench

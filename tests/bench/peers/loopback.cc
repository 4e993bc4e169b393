#include "tests/bench/peers/loopback.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "tests/bench/process_cpu.h"

namespace engram::bench {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);
// What is taken in at once stays in a core's own cache until it is copied to its place.
constexpr size_t kBufferBytes = 256 << 10;
constexpr size_t kLeastSpace = 64 << 10;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

absl::StatusOr<int> FreePort() {
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return absl::ErrnoToStatus(errno, "socket");
  const absl::Cleanup close_it = [&] { close(socket_fd); };
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(socket_fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::ErrnoToStatus(errno, "no free TCP port");
  }
  return ntohs(address.sin_port);
}

absl::Status Closed() { return absl::UnavailableError("the server has closed its connection"); }

absl::Status TimedOut() {
  return absl::DeadlineExceededError(
      absl::StrCat("the server has done nothing for ", absl::FormatDuration(kTimeout)));
}

bool WouldBlock(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

absl::Status SocketError(int error, absl::string_view call) {
  if (error == ECONNRESET || error == EPIPE) return Closed();
  return absl::ErrnoToStatus(error, call);
}

}  // namespace

LoopbackConnection::LoopbackConnection(int socket, absl::Duration spin)
    : socket_(socket), spin_(absl::ToChronoNanoseconds(spin)), buffer_(kBufferBytes) {}

LoopbackConnection::~LoopbackConnection() { close(socket_); }

absl::StatusOr<std::unique_ptr<LoopbackConnection>> LoopbackConnection::Connect(
    int port, absl::Duration spin) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  std::unique_ptr<LoopbackConnection> connection(new LoopbackConnection(fd, spin));
  const int on = 1;
  const timeval timeout = absl::ToTimeval(kTimeout);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  // Buffers stay the kernel's business: a size that is asked for is capped far below what it grows
  // them to by itself.
  const sockaddr_in address = Loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot connect to port ", port));
  }
  return connection;
}

absl::Status LoopbackConnection::Send(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
      continue;
    }
    if (!WouldBlock(errno)) return SocketError(errno, "send");
    pollfd ready{socket_, POLLIN | POLLOUT, 0};
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(kTimeout))) == 0) {
      return TimedOut();
    }
    if ((ready.revents & POLLIN) != 0) RETURN_IF_ERROR(TakeIn(MSG_DONTWAIT).status());
  }
  return absl::OkStatus();
}

absl::Status LoopbackConnection::Receive() {
  using Clock = std::chrono::steady_clock;
  if (spin_.count() > 0) {
    const Clock::time_point end = Clock::now() + spin_;
    do {
      ASSIGN_OR_RETURN(const bool came, TakeIn(MSG_DONTWAIT));
      if (came) return absl::OkStatus();
    } while (Clock::now() < end);
  }
  ASSIGN_OR_RETURN(const bool came, TakeIn(0));
  return came ? absl::OkStatus() : TimedOut();
}

absl::StatusOr<bool> LoopbackConnection::TakeIn(int recv_flags) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - end_ < kLeastSpace) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    if (buffer_.size() - end_ < kLeastSpace) buffer_.resize(2 * buffer_.size());
  }
  while (true) {
    const ssize_t got = recv(socket_, buffer_.data() + end_, buffer_.size() - end_, recv_flags);
    if (got == 0) return Closed();
    if (got > 0) {
      end_ += static_cast<size_t>(got);
      return true;
    }
    if (errno == EINTR) continue;
    if (WouldBlock(errno)) return false;
    return SocketError(errno, "recv");
  }
}

absl::StatusOr<LoopbackServer> StartLoopbackServer(
    const std::function<std::vector<std::string>(const std::string& port)>& argv,
    const PeerSetup& setup) {
  ASSIGN_OR_RETURN(const int port, FreePort());
  LoopbackServer server;
  ASSIGN_OR_RETURN(server.process,
                   ChildProcess::Start(argv(absl::StrCat(port)), setup.server_core));
  const absl::Time deadline = absl::Now() + kTimeout;
  while (server.connection == nullptr) {
    absl::StatusOr<std::unique_ptr<LoopbackConnection>> connection =
        LoopbackConnection::Connect(port, setup.spin);
    if (connection.ok()) {
      server.connection = *std::move(connection);
      continue;
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("the server does not listen after ",
                                                      absl::FormatDuration(kTimeout), ": ",
                                                      connection.status().message()));
    }
    // Tells when it has ended; otherwise a pause.
    const absl::StatusOr<std::string> line = server.process->ReadLine(absl::Milliseconds(10));
    if (absl::IsUnavailable(line.status())) return line.status();
  }
  // Between our look at the port and the server's bind another program may have taken it, and
  // would now be filled with rows.
  if (FindListeners({absl::StrCat("127.0.0.1:", port)}) != std::vector{server.process->pid()}) {
    return absl::UnavailableError(absl::StrCat("port ", port, " is another program's"));
  }
  return server;
}

}  // namespace engram::bench

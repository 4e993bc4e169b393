// The bare TCP pair: what kernel sockets allow when nothing else is done.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"
#include "tests/bench/child_process.h"
#include "tests/bench/peers/epoll_spin.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/peers/raw_wire.h"

namespace engram::bench {
namespace {

constexpr absl::Duration kLoadTimeout = absl::Minutes(2);
constexpr size_t kWakeBytes = 128 << 10;

class RawPeer final : public Peer {
 public:
  RawPeer(std::unique_ptr<ChildProcess> server, int fd, int epoll, absl::Duration spin)
      : server_(std::move(server)),
        fd_(fd),
        epoll_(epoll),
        spin_(absl::ToChronoNanoseconds(spin)) {}
  ~RawPeer() override {
    close(fd_);
    close(epoll_);
  }

  absl::Status Ask(BatchRun& run) override {
    return AskInOrder(
        run, [this](BatchRun::Batch& batch) { return Submit(batch); },
        [this](BatchRun::Batch& batch) { return Take(batch); });
  }

  std::vector<pid_t> server_pids() const override { return {server_->pid()}; }

 private:
  absl::Status Submit(const BatchRun::Batch& batch) {
    const RawHeader header{static_cast<uint32_t>(batch.ids.size()), 0};
    request_.resize(sizeof(header) + batch.ids.size() * sizeof(uint32_t));
    std::memcpy(request_.data(), &header, sizeof(header));
    uint8_t* out = request_.data() + sizeof(header);
    for (const int64_t id : batch.ids) {
      const uint32_t narrow = static_cast<uint32_t>(id);
      std::memcpy(out, &narrow, sizeof(narrow));
      out += sizeof(narrow);
    }
    // The requests in flight are a few hundred kilobytes: they fit into the socket.
    for (size_t sent = 0; sent < request_.size();) {
      const ssize_t n =
          send(fd_, request_.data() + sent, request_.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0) return absl::ErrnoToStatus(errno, "cannot send to the bare server");
      sent += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  // Rows go from the socket straight to their place.
  absl::Status Take(BatchRun::Batch& batch) {
    RawHeader header;
    size_t done = 0;
    const size_t all = sizeof(header) + batch.out.size();
    while (done < all) {
      const size_t of_header = std::min(done, sizeof(header));
      const size_t of_rows = done - of_header;
      std::array<iovec, 2> parts{{
          {reinterpret_cast<uint8_t*>(&header) + of_header, sizeof(header) - of_header},
          {batch.out.data() + of_rows, batch.out.size() - of_rows},
      }};
      AskToWake(std::min(all - done, kWakeBytes));
      epoll_event event;
      if (WaitSpinning(epoll_, &event, 1, spin_) < 0 && errno != EINTR) {
        return absl::ErrnoToStatus(errno, "epoll_wait");
      }
      const ssize_t got = readv(fd_, parts.data(), parts.size());
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) return absl::UnavailableError("the bare server has closed the connection");
      done += static_cast<size_t>(got);
    }
    if (header.rows == batch.ids.size()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("the bare server sent ", header.rows, " rows"));
  }

  // A poller that takes every packet by itself is slower than one that lets some gather.
  void AskToWake(size_t bytes) {
    if (bytes < kWakeBytes) bytes = 1;
    if (bytes == wake_bytes_) return;
    wake_bytes_ = bytes;
    const int value = static_cast<int>(bytes);
    setsockopt(fd_, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
  }

  const std::unique_ptr<ChildProcess> server_;
  const int fd_;
  const int epoll_;
  const std::chrono::nanoseconds spin_;
  std::vector<uint8_t> request_;
  size_t wake_bytes_ = 1;
};

absl::StatusOr<int> Connect(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const int on = 1;
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot connect to the bare server");
  }
  return fd;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeRawPeer(const PeerSetup& setup) {
  ASSIGN_OR_RETURN(const std::string directory, OwnDirectory());
  ASSIGN_OR_RETURN(
      std::unique_ptr<ChildProcess> server,
      ChildProcess::Start({absl::StrCat(directory, "/engram-bench"), "raw-server", "--checkpoint",
                           setup.checkpoint, "--shard-map", setup.shard_map, "--spin-us",
                           absl::StrCat(absl::ToInt64Microseconds(setup.spin))},
                          setup.server_core));
  ASSIGN_OR_RETURN(const std::string line, server->ReadLine(kLoadTimeout));
  uint32_t port = 0;
  if (!absl::SimpleAtoi(absl::StripPrefix(line, "port "), &port) || port > UINT16_MAX) {
    return absl::InternalError(absl::StrCat("the bare server said `", line, "`"));
  }
  ASSIGN_OR_RETURN(const int fd, Connect(static_cast<uint16_t>(port)));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::ErrnoToStatus(errno, "epoll");
  }
  return std::make_unique<RawPeer>(std::move(server), fd, epoll, setup.spin);
}

}  // namespace engram::bench

#include "tests/bench/peers/raw_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/arena.h"
#include "storage/table.h"
#include "tests/bench/peers/epoll_spin.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/peers/raw_wire.h"

namespace engram::bench {
namespace {

// Rows are gathered into pieces of this size and sent at once, so that they are still in the cache.
constexpr size_t kPieceBytes = 256 << 10;

// One client. Requests are answered in order; while an answer does not fit into the socket nothing
// more is read or gathered.
class Connection {
 public:
  Connection(int epoll, int fd, const RowStore& rows, Arena piece)
      : epoll_(epoll), fd_(fd), rows_(rows), piece_(std::move(piece)), incoming_(1 << 20) {
    Watch(EPOLL_CTL_ADD, EPOLLIN);
  }
  ~Connection() { close(fd_); }

  // False when the connection is over.
  bool OnEvent() {
    if (!blocked_) {
      const ssize_t got =
          recv(fd_, incoming_.data() + filled_, incoming_.size() - filled_, MSG_DONTWAIT);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      filled_ += static_cast<size_t>(got);
    }
    return Pump();
  }

 private:
  // Sends and gathers until there is nothing more to answer, or the socket takes no more.
  bool Pump() {
    do {
      while (sent_ < used_) {
        const ssize_t sent =
            send(fd_, piece_.data() + sent_, used_ - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN && SetBlocked(true);
        sent_ += static_cast<size_t>(sent);
      }
      sent_ = used_ = 0;
      if (!FillPiece()) return false;
    } while (used_ > 0);
    return SetBlocked(false);
  }

  // Gathers what fits into a piece. Small answers that are ready together leave together.
  bool FillPiece() {
    const size_t row_bytes = rows_.layout().row_bytes();
    while (true) {
      if (next_row_ == ids_.size()) {
        if (kPieceBytes - used_ < sizeof(RawHeader) + row_bytes || !NextRequest()) break;
      }
      const size_t count = std::min(ids_.size() - next_row_, (kPieceBytes - used_) / row_bytes);
      if (count == 0) break;
      const std::span<const uint32_t> ids(ids_.data() + next_row_, count);
      if (!rows_.Gather(kPeerLayer, ids, piece_.data() + used_, nullptr).ok()) return false;
      used_ += count * row_bytes;
      next_row_ += count;
    }
    return true;
  }

  // Takes the next request that is whole, and puts its answer's header into the piece. False: there
  // is none yet.
  bool NextRequest() {
    RawHeader header;
    const size_t there = filled_ - parsed_;
    size_t bytes = sizeof(header);
    if (there >= bytes) {
      std::memcpy(&header, incoming_.data() + parsed_, sizeof(header));
      bytes += std::min(header.rows, kRawMaxRows) * sizeof(uint32_t);
    }
    if (there < bytes) {
      std::memmove(incoming_.data(), incoming_.data() + parsed_, there);
      filled_ = there;
      parsed_ = 0;
      return false;
    }
    ids_.resize((bytes - sizeof(header)) / sizeof(uint32_t));
    std::memcpy(ids_.data(), incoming_.data() + parsed_ + sizeof(header), bytes - sizeof(header));
    next_row_ = 0;
    parsed_ += bytes;
    std::memcpy(piece_.data() + used_, &header, sizeof(header));
    used_ += sizeof(header);
    return true;
  }

  bool SetBlocked(bool blocked) {
    if (blocked != blocked_) Watch(EPOLL_CTL_MOD, blocked ? EPOLLOUT : EPOLLIN);
    blocked_ = blocked;
    return true;
  }

  void Watch(int how, uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd_;
    epoll_ctl(epoll_, how, fd_, &event);
  }

  const int epoll_;
  const int fd_;
  const RowStore& rows_;
  const Arena piece_;  // bytes [sent_, used_) of it wait for the socket
  size_t used_ = 0;
  size_t sent_ = 0;
  bool blocked_ = false;           // the socket was full: it is watched for room
  std::vector<uint8_t> incoming_;  // bytes [parsed_, filled_) are not yet taken
  size_t filled_ = 0;
  size_t parsed_ = 0;
  std::vector<uint32_t> ids_;  // of the request under way
  size_t next_row_ = 0;
};

absl::StatusOr<int> Listen(uint16_t& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 16) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::ErrnoToStatus(errno, "cannot listen on loopback");
  }
  port = ntohs(address.sin_port);
  return fd;
}

absl::StatusOr<Table> Load(const RawServerOptions& options) {
  LoadOptions load;
  load.checkpoint = options.checkpoint;
  if (!options.shard_map.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(options.shard_map, kMaxShardMapBytes));
    ASSIGN_OR_RETURN(load.shard_map, ShardMap::Parse(text, options.shard_map));
    ASSIGN_OR_RETURN(load.shard, load.shard_map->Find(kPeerShard));
  }
  return LoadTable(load);
}

}  // namespace

absl::Status RunRawServer(const RawServerOptions& options) {
  ASSIGN_OR_RETURN(const Table table, Load(options));
  uint16_t port = 0;
  ASSIGN_OR_RETURN(const int listener, Listen(port));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener;
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  std::cout << "port " << port << std::endl;
  std::map<int, std::unique_ptr<Connection>> connections;
  while (true) {
    std::array<epoll_event, 16> events;
    const int count = WaitSpinning(epoll, events.data(), static_cast<int>(events.size()),
                                   absl::ToChronoNanoseconds(options.spin));
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == listener) {
        const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        const int on = 1;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        ASSIGN_OR_RETURN(Arena piece, Arena::Create(kPieceBytes));
        connections[accepted] =
            std::make_unique<Connection>(epoll, accepted, *table.rows, std::move(piece));
      } else if (!connections[fd]->OnEvent()) {
        connections.erase(fd);
      }
    }
  }
}

}  // namespace engram::bench

// A non-blocking stream socket, and the addresses it can be connected to.
#ifndef ENGRAM_CLIENT_SOCKET_H_
#define ENGRAM_CLIENT_SOCKET_H_

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;

  bool operator==(const SocketAddress& other) const;
  bool operator<(const SocketAddress& other) const;  // any order
};
std::string ToString(const SocketAddress& address);  // as ResolveAddress takes it

// What "host:port", "[v6]:port" or "unix:PATH" stands for, in the order to be tried. With
// `numeric_only` nothing is looked up: a name is then NotFound. InvalidArgument: not of these
// forms. Unavailable: the name is not known (now). May block for seconds unless `numeric_only`.
absl::StatusOr<std::vector<SocketAddress>> ResolveAddress(const std::string& address,
                                                          bool numeric_only);

// Owns the descriptor. Movable.
class Socket {
 public:
  // Begins to connect; writable when that is over. Unavailable: refused at once.
  static absl::StatusOr<Socket> StartConnect(const SocketAddress& address);
  // How connecting ended. Unavailable: refused, unreachable, timed out.
  absl::Status FinishConnect() const;

  Socket() = default;
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  // How many bytes were read or written; 0: none can be now. Unavailable: the connection is lost,
  // or closed by the other side.
  absl::StatusOr<size_t> Read(std::span<uint8_t> into);
  absl::StatusOr<size_t> Write(std::span<const uint8_t> bytes);

  int fd() const { return fd_; }

 private:
  explicit Socket(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SOCKET_H_

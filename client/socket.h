// A non-blocking stream socket, and the addresses it can be connected to.
#ifndef ENGRAM_CLIENT_SOCKET_H_
#define ENGRAM_CLIENT_SOCKET_H_

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/tls_stream.h"

namespace engram {

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;

  bool operator==(const SocketAddress& other) const;
  bool operator<(const SocketAddress& other) const;  // any order
};
std::string ToString(const SocketAddress& address);  // as ResolveAddress takes it

// InvalidArgument: neither host:port nor unix:PATH. Nothing is looked up.
absl::Status CheckAddress(absl::string_view address);

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
  // What is read and written from now on is so through the session; null: in plaintext, as before.
  void Secure(TlsSession session);

  Socket() = default;
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  // How many bytes were read or written; 0: none can be now. Unavailable: the connection is lost,
  // or closed by the other side. With TLS also as TlsStream.
  absl::StatusOr<size_t> Read(std::span<uint8_t> into);
  absl::StatusOr<size_t> Write(std::span<const uint8_t> bytes);

  bool tls() const { return tls_ != nullptr; }
  // As of TlsStream; without TLS never.
  bool pending() const { return tls_ != nullptr && tls_->pending(); }
  bool waits_for_input() const { return tls_ != nullptr && tls_->waits_for_input(); }

  int fd() const { return fd_; }

 private:
  explicit Socket(int fd) : fd_(fd) {}
  int fd_ = -1;
  std::unique_ptr<TlsStream> tls_;  // null: plaintext
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SOCKET_H_

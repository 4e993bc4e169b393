#include "client/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

absl::Status Lost(int error) {
  return absl::UnavailableError(absl::StrCat("connection lost: ", std::strerror(error)));
}

constexpr size_t kMostPath = sizeof(sockaddr_un::sun_path) - 1;

// One of the two forms an address has.
struct AddressParts {
  std::string path;  // of a Unix socket; empty: host and port
  std::string host;  // a name, or a number without brackets
  uint32_t port = 0;
};

absl::StatusOr<AddressParts> ParseAddress(absl::string_view address) {
  AddressParts parts;
  absl::string_view text = address;
  if (absl::ConsumePrefix(&text, "unix:")) {
    if (text.empty() || text.size() > kMostPath) {
      return absl::InvalidArgumentError(
          absl::StrCat(address, ": the path is empty or longer than ", kMostPath, " bytes"));
    }
    parts.path = std::string(text);
    return parts;
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &parts.port) || parts.port == 0 ||
      parts.port > UINT16_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("address `", address, "` is neither host:port nor unix:PATH"));
  }
  absl::string_view host = text.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  parts.host = std::string(host);
  return parts;
}

std::vector<SocketAddress> UnixAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  SocketAddress result;
  std::memcpy(&result.storage, &address, sizeof(address));
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return {result};
}

}  // namespace

absl::Status CheckAddress(absl::string_view address) { return ParseAddress(address).status(); }

absl::StatusOr<std::vector<SocketAddress>> ResolveAddress(const std::string& address,
                                                          bool numeric_only) {
  ASSIGN_OR_RETURN(const AddressParts parts, ParseAddress(address));
  if (!parts.path.empty()) return UnixAddress(parts.path);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(parts.host.c_str(), absl::StrCat(parts.port).c_str(), &hints, &found);
  if (error == EAI_NONAME && numeric_only) return absl::NotFoundError(address);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot resolve ", parts.host, ": ", gai_strerror(error)));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    SocketAddress& next = addresses.emplace_back();
    std::memcpy(&next.storage, each->ai_addr, each->ai_addrlen);
    next.size = each->ai_addrlen;
  }
  freeaddrinfo(found);
  return addresses;
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  return size == other.size && std::memcmp(&storage, &other.storage, size) == 0;
}

bool SocketAddress::operator<(const SocketAddress& other) const {
  if (size != other.size) return size < other.size;
  return std::memcmp(&storage, &other.storage, size) < 0;
}

std::string ToString(const SocketAddress& address) {
  const auto* const raw = reinterpret_cast<const sockaddr*>(&address.storage);
  if (raw->sa_family == AF_UNIX) {
    return absl::StrCat("unix:", reinterpret_cast<const sockaddr_un*>(raw)->sun_path);
  }
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(raw, address.size, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "an unknown address";
  }
  return raw->sa_family == AF_INET6 ? absl::StrCat("[", host, "]:", port)
                                    : absl::StrCat(host, ":", port);
}

absl::StatusOr<Socket> Socket::StartConnect(const SocketAddress& address) {
  const int family = address.storage.ss_family;
  Socket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd_ < 0) return absl::ErrnoToStatus(errno, "socket");
  if (family != AF_UNIX) {
    const int on = 1;
    setsockopt(socket.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  const auto* const to = reinterpret_cast<const sockaddr*>(&address.storage);
  if (connect(socket.fd_, to, address.size) != 0 && errno != EINPROGRESS) {
    return absl::UnavailableError(absl::StrCat("cannot connect: ", std::strerror(errno)));
  }
  return socket;
}

absl::Status Socket::FinishConnect() const {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot connect: ", std::strerror(error)));
}

void Socket::Secure(TlsSession session) {
  if (session != nullptr) tls_ = std::make_unique<TlsStream>(std::move(session), fd_);
}

Socket::Socket(Socket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), tls_(std::move(other.tls_)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(tls_, other.tls_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<size_t> Socket::Read(std::span<uint8_t> into) {
  if (tls_ != nullptr) return tls_->Read(into);
  while (true) {
    const ssize_t got = recv(fd_, into.data(), into.size(), 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return absl::UnavailableError("the server closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    if (errno != EINTR) return Lost(errno);
  }
}

absl::StatusOr<size_t> Socket::Write(std::span<const uint8_t> bytes) {
  if (tls_ != nullptr) return tls_->Write(bytes);
  while (true) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    if (errno != EINTR) return Lost(errno);
  }
}

}  // namespace engram

// Whatever is sent to a server's port: as it stands, or as the messages of one of its calls. The
// first byte says which; the server must answer others as before.
//
// gRPC reads first, and is not instrumented: coverage is that of our calls behind it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>

#include "absl/strings/numbers.h"
#include "tests/cluster/fake_cluster.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/fuzz/memory_file.h"

namespace engram {
namespace {

constexpr size_t kMost = 64 << 10;
// A good request is made after so many others.
constexpr int kCheckEvery = 64;

constexpr std::array<absl::string_view, 8> kPaths = {
    "/engram.v1.EngramService/GatherStream", "/engram.v1.EngramService/Gather",
    "/engram.v1.EngramService/Describe",     "/engram.v1.EngramService/Publish",
    "/engram.v1.EngramService/Activate",     "/engram.v1.EngramService/Retire",
    "/engram.v1.EngramService/Nothing",      "/grpc.health.v1.Health/Check"};

std::string Frame(char type, char flags, char stream, absl::string_view payload) {
  std::string frame = {static_cast<char>(payload.size() >> 16),
                       static_cast<char>(payload.size() >> 8),
                       static_cast<char>(payload.size()),
                       type,
                       flags,
                       0,
                       0,
                       0,
                       stream};
  return frame.append(payload.data(), payload.size());
}

// A connection's beginning and one call's headers, in HPACK's literals (RFC 7541, 6.2.2).
std::string BeginCall(absl::string_view path) {
  const auto literal = [](absl::string_view index, absl::string_view value) {
    return std::string(index) + static_cast<char>(value.size()) + std::string(value);
  };
  std::string headers = "\x83\x86";                    // :method POST, :scheme http
  headers += literal("\x04", path);                    // :path
  headers += literal("\x01", "localhost");             // :authority
  headers += literal("\x0F\x10", "application/grpc");  // content-type
  headers += literal(absl::string_view("\0\x02te", 4), "trailers");
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, "") + Frame(1, 4, 1, headers);
}

// Each of gRPC's messages, as many bytes as its first two say, behind a rightly made prefix; the
// rest in one.
std::string Messages(absl::string_view bytes) {
  std::string messages;
  while (!bytes.empty()) {
    size_t size = static_cast<uint8_t>(bytes[0]);
    bytes.remove_prefix(1);
    if (size == 255) size = bytes.size();
    const absl::string_view message = bytes.substr(0, size);
    bytes.remove_prefix(message.size());
    messages +=
        {0, static_cast<char>(message.size() >> 24), static_cast<char>(message.size() >> 16),
         static_cast<char>(message.size() >> 8), static_cast<char>(message.size())};
    messages.append(message.data(), message.size());
  }
  return messages;
}

// In frames of 16 KiB, the last of which ends the call's messages.
std::string DataFrames(absl::string_view bytes) {
  constexpr size_t kFrame = 16 << 10;
  std::string frames;
  for (; bytes.size() > kFrame; bytes.remove_prefix(kFrame)) {
    frames += Frame(0, 0, 1, bytes.substr(0, kFrame));
  }
  return frames + Frame(0, 1, 1, bytes);
}

struct Served {
  FakeCluster cluster{1};
  std::unique_ptr<Client> client = *cluster.Connect();
  sockaddr_in address = {};
  int sent = 0;

  Served() {
    const std::string name = cluster.addresses()[0];
    uint32_t port = 0;
    Require(absl::SimpleAtoi(name.substr(name.rfind(':') + 1), &port));
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }

  // Sends it, then reads until nothing comes for a while, or the server closes.
  void Send(const std::string& bytes) const {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    // At once gone when closed: no ports are used up.
    const linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Require(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    size_t written = 0;
    std::array<char, 4096> answer;
    while (true) {
      pollfd ready = {fd, static_cast<int16_t>(written < bytes.size() ? POLLIN | POLLOUT : POLLIN),
                      0};
      if (poll(&ready, 1, 3) <= 0) break;
      if ((ready.revents & POLLOUT) != 0) {
        const ssize_t count =
            send(fd, bytes.data() + written, bytes.size() - written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0) break;
        written += static_cast<size_t>(count);
      }
      if ((ready.revents & ~POLLOUT) != 0 && recv(fd, answer.data(), answer.size(), 0) <= 0) break;
    }
    close(fd);
  }

  void Check() const {
    const std::vector<int64_t> ids = {5, 0, 2999, -1, 5};
    std::vector<uint8_t> out;
    Require(LookUp(*client, 1, ids, out).ok());
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::string row =
          FakeRowStore::RowBytes(1, static_cast<uint64_t>(ids[i]), kFakeRowBytes);
      Require(std::equal(row.begin(), row.end(),
                         reinterpret_cast<const char*>(out.data()) + i * kFakeRowBytes));
    }
  }
};

}  // namespace
}  // namespace engram

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  // Ends with the process, whose threads go first.
  static Served& served = *new Served;
  if (size < 1 || size > kMost) return 0;
  const absl::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint8_t kind = data[0];
  std::string bytes;
  if (kind < kPaths.size()) {
    bytes = BeginCall(kPaths[kind]) + DataFrames(Messages(rest));
  } else if (kind < 2 * kPaths.size()) {
    bytes = BeginCall(kPaths[kind - kPaths.size()]) + std::string(rest);
  } else {
    bytes = std::string(rest);
  }
  served.Send(bytes);
  if (++served.sent % kCheckEvery == 1) served.Check();
  return 0;
}

// What a server sends, HTTP/2 and all: the client's connection over a real socket, with one unary
// call and one GatherStream under way. The first byte says how the rest is cut into reads.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "client/answer_reader.h"
#include "client/describe.h"
#include "client/http2_connection.h"
#include "client/unary_call.h"
#include "tests/fuzz/memory_file.h"

namespace engram {
namespace {

// Rows of an answer come between its beginning and its end, as many as it has said.
class CheckedAnswers final : public AnswerReader::Sink, public Http2Connection::Call {
 public:
  absl::Status OnAnswer(const StreamResponse& header) override {
    Require(left_ == 0);
    left_ = header.rows_bytes;
    return absl::OkStatus();
  }
  absl::Status OnRows(std::span<const uint8_t> bytes) override {
    Require(bytes.size() <= left_);
    left_ -= bytes.size();
    return absl::OkStatus();
  }
  absl::Status OnAnswerEnd() override {
    Require(left_ == 0);
    return absl::OkStatus();
  }
  absl::Status OnBytes(std::span<const uint8_t> bytes) override {
    Require(!ended_);
    return reader_.Feed(bytes);
  }
  void OnEnd(const absl::Status&) override {
    Require(!ended_);
    ended_ = true;
  }

 private:
  AnswerReader reader_{this};
  uint64_t left_ = 0;
  bool ended_ = false;
};

// A socket that the client has connected, and the server's end of it.
struct Connected {
  Socket client;
  int server = -1;
};

Connected Connect() {
  static const std::string path = "/tmp/engram-fuzz-" + std::to_string(getpid());
  static const SocketAddress address = [] {
    unlink(path.c_str());
    return ResolveAddress("unix:" + path, true)->front();
  }();
  static const int listener = [] {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    Require(bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0);
    Require(listen(fd, 16) == 0);
    std::atexit([] { unlink(path.c_str()); });
    return fd;
  }();
  absl::StatusOr<Socket> client = Socket::StartConnect(address);
  Require(client.ok());
  const int server = accept(listener, nullptr, nullptr);
  Require(server >= 0 && fcntl(server, F_SETFL, O_NONBLOCK) == 0);
  return {*std::move(client), server};
}

}  // namespace
}  // namespace engram

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  constexpr size_t kMost = 64 << 10;  // what a socket's buffer takes
  if (size < 1 || size > kMost) return 0;
  Connected sockets = Connect();
  Http2Connection connection(std::move(sockets.client), {"fuzz", ""});
  int answers = 0;
  UnaryCall describe(kMaxDescribeBytes, [&](const absl::StatusOr<std::string>& response) {
    Require(++answers == 1);
    if (response.ok()) ParseDescribe(*response, std::nullopt).IgnoreError();
  });
  CheckedAnswers stream;
  Require(describe.Start(connection, kDescribePath, "", absl::Seconds(3)).ok());
  Require(connection.StartCall(kGatherStreamPath, absl::InfiniteDuration(), &stream).ok());
  std::vector<uint8_t> scratch(kMost);
  const size_t cut = data[0] == 0 ? size : data[0];
  bool ended = !connection.Flush().ok();
  for (size_t at = 1; at < size && !ended; at += cut) {
    const size_t count = std::min(cut, size - at);
    Require(write(sockets.server, data + at, count) == static_cast<ssize_t>(count));
    ended = !connection.OnReadable(scratch).ok() || !connection.Flush().ok();
    while (read(sockets.server, scratch.data(), scratch.size()) > 0) {
    }
  }
  close(sockets.server);
  // A connection that is gone is noticed, whatever has come before.
  for (int i = 0; i < 4 && !ended; ++i) ended = !connection.OnReadable(scratch).ok();
  Require(ended);
  return 0;
}

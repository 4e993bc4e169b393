// Servers on this machine that peers start and ask over TCP, in a pipeline.
#ifndef ENGRAM_TESTS_BENCH_PEERS_LOOPBACK_H_
#define ENGRAM_TESTS_BENCH_PEERS_LOOPBACK_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/child_process.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {

// A TCP connection to a port of this machine. Few system calls: what is sent goes out whole, what
// comes is taken in as much as there is. Not thread-safe.
//
// Unavailable: the other side has closed; DeadlineExceeded: it has neither read nor answered for
// 30 seconds.
class LoopbackConnection {
 public:
  // `spin`: how long a wait for bytes polls before it sleeps.
  static absl::StatusOr<std::unique_ptr<LoopbackConnection>> Connect(int port, absl::Duration spin);
  ~LoopbackConnection();
  LoopbackConnection(const LoopbackConnection&) = delete;
  LoopbackConnection& operator=(const LoopbackConnection&) = delete;

  // Takes in what comes while the other side does not read: it may be waiting for us to.
  absl::Status Send(std::span<const uint8_t> bytes);

  // Until at least `bytes` have come that were not consumed.
  absl::Status Await(size_t bytes) {
    while (end_ - begin_ < bytes) {
      if (absl::Status status = Receive(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  // What has come and was not consumed; valid until the next call of Send or Await.
  std::span<const uint8_t> received() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void Consume(size_t bytes) { begin_ += bytes; }

 private:
  LoopbackConnection(int socket, absl::Duration spin);

  absl::Status Receive();                       // at least one byte
  absl::StatusOr<bool> TakeIn(int recv_flags);  // false: nothing was there in time

  const int socket_;  // owned
  const std::chrono::nanoseconds spin_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0;  // of what was not consumed
  size_t end_ = 0;
};

// The connection goes first: a server stops sooner without one.
struct LoopbackServer {
  std::unique_ptr<ChildProcess> process;
  std::unique_ptr<LoopbackConnection> connection;
};

// Starts `argv(port)`, with a port that is free, on the server's core and connects to it.
// Unavailable: it has ended, or another program took the port; DeadlineExceeded: 30 seconds.
absl::StatusOr<LoopbackServer> StartLoopbackServer(
    const std::function<std::vector<std::string>(const std::string& port)>& argv,
    const PeerSetup& setup);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_LOOPBACK_H_

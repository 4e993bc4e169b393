// The real server and the real client library.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "tests/bench/ask_client.h"
#include "tests/bench/child_process.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {
namespace {

constexpr absl::Duration kLoadTimeout = absl::Minutes(2);

class EngramPeer final : public Peer {
 public:
  EngramPeer(std::unique_ptr<ChildProcess> server, ClientOptions options)
      : server_(std::move(server)), options_(std::move(options)) {}

  absl::Status Ask(BatchRun& run) override {
    if (client_ == nullptr) {
      ASSIGN_OR_RETURN(client_, Client::Connect(options_));
    }
    return AskClient(*client_, kPeerLayer, LookupPriority::kDecode, run);
  }
  // gRPC 1.51 has one epoll set per process: the I/O threads of two clients take each other's
  // events, and one that sleeps wakes the other late.
  void Rest() override { client_.reset(); }
  std::vector<pid_t> server_pids() const override { return {server_->pid()}; }

 private:
  const std::unique_ptr<ChildProcess> server_;
  const ClientOptions options_;
  std::unique_ptr<Client> client_;
};

// The value of " name=" in the line that engramd prints.
absl::StatusOr<std::string> FieldOf(absl::string_view line, absl::string_view name) {
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, name) && absl::ConsumePrefix(&word, "=")) {
      return std::string(word);
    }
  }
  return absl::InternalError(absl::StrCat("engramd said `", line, "`, without ", name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeEngramPeer(const PeerSetup& setup) {
  ASSIGN_OR_RETURN(const std::string directory, OwnDirectory());
  ASSIGN_OR_RETURN(
      std::unique_ptr<ChildProcess> server,
      ChildProcess::Start(
          {absl::StrCat(directory, "/engramd"), "--checkpoint", setup.checkpoint, "--shard-map",
           setup.shard_map, "--shard", kPeerShard, "--listen", "127.0.0.1:0", "--threads", "1",
           "--spin-us", absl::StrCat(absl::ToInt64Microseconds(setup.spin))},
          setup.server_core));
  ASSIGN_OR_RETURN(const std::string line, server->ReadLine(kLoadTimeout));
  ASSIGN_OR_RETURN(std::string address, FieldOf(line, "listen"));
  ClientOptions options;
  options.servers = {std::move(address)};
  options.allow_partial = true;
  options.spin = setup.spin;
  return std::make_unique<EngramPeer>(std::move(server), std::move(options));
}

}  // namespace engram::bench

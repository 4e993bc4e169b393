// The real server and the real client library.
#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "proto/base/status_macros.h"
#include "tests/bench/ask_client.h"
#include "tests/bench/engramd_process.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {
namespace {

class EngramPeer final : public Peer {
 public:
  EngramPeer(std::unique_ptr<EngramdProcess> server, ClientOptions options)
      : server_(std::move(server)), options_(std::move(options)) {}

  absl::Status Ask(BatchRun& run) override {
    if (client_ == nullptr) {
      ASSIGN_OR_RETURN(client_, Client::Connect(options_));
    }
    return AskClient(*client_, kPeerLayer, LookupPriority::kDecode, run);
  }
  // Its I/O thread would poll beside another peer's run.
  void Rest() override { client_.reset(); }
  std::vector<pid_t> server_pids() const override { return {server_->pid()}; }

 private:
  const std::unique_ptr<EngramdProcess> server_;
  const ClientOptions options_;
  std::unique_ptr<Client> client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeEngramPeer(const PeerSetup& setup) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<EngramdProcess> server,
      EngramdProcess::Start(
          {"--checkpoint", setup.checkpoint, "--shard-map", setup.shard_map, "--shard", kPeerShard,
           "--threads", "1", "--spin-us", absl::StrCat(absl::ToInt64Microseconds(setup.spin))},
          setup.server_core));
  ClientOptions options;
  options.servers = {server->address()};
  options.allow_partial = true;
  options.spin = setup.spin;
  return std::make_unique<EngramPeer>(std::move(server), std::move(options));
}

}  // namespace engram::bench

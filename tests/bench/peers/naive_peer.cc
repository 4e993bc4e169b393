// The naive way: one synchronous unary call a batch. Its server is naive_server.h, run by this
// project's engram-bench in a process of its own.
#include <grpcpp/grpcpp.h>

#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "peers/naive.grpc.pb.h"
#include "proto/base/status_macros.h"
#include "proto/grpc_status.h"
#include "storage/synth_rows.h"
#include "tests/bench/child_process.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {
namespace {

class NaivePeer final : public Peer {
 public:
  NaivePeer(std::unique_ptr<ChildProcess> server, const std::string& address)
      : server_(std::move(server)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);  // 16,384 rows are more than the 4 MB of the default
    arguments.SetMaxSendMessageSize(-1);
    stub_ = NaiveService::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  // One batch in flight whatever the depth: a synchronous call holds its thread until it is
  // answered, and the client is one thread.
  absl::Status Ask(BatchRun& run) override {
    while (BatchRun::Batch* batch = run.Next()) {
      RETURN_IF_ERROR(Gather(batch->ids, batch->out));
      run.Done(*batch);
    }
    return absl::OkStatus();
  }

  std::vector<pid_t> server_pids() const override { return {server_->pid()}; }

 private:
  absl::Status Gather(std::span<const int64_t> ids, std::span<uint8_t> out) {
    NaiveGatherRequest request;
    request.mutable_ids()->Add(ids.begin(), ids.end());
    NaiveGatherResponse response;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    RETURN_IF_ERROR(FromGrpcStatus(stub_->Gather(&context, request, &response), "naive"));
    if (response.rows().size() != ids.size() * kSynthRowBytes) {
      return absl::DataLossError(
          absl::StrCat("naive: ", response.rows().size(), " bytes for ", ids.size(), " rows"));
    }
    std::memcpy(out.data(), response.rows().data(), response.rows().size());
    return absl::OkStatus();
  }

  const std::unique_ptr<ChildProcess> server_;
  std::unique_ptr<NaiveService::Stub> stub_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeNaivePeer(const PeerSetup& setup) {
  ASSIGN_OR_RETURN(const std::string directory, OwnDirectory());
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> server,
                   ChildProcess::Start({directory + "/engram-bench", "naive-server", "--rows",
                                        absl::StrCat(setup.rows)},
                                       setup.server_core));
  // Long: it makes its rows first.
  ASSIGN_OR_RETURN(const std::string line, server->ReadLine(absl::Minutes(5)));
  absl::string_view port = line;
  int number = 0;
  if (!absl::ConsumePrefix(&port, "port ") || !absl::SimpleAtoi(port, &number)) {
    return absl::InternalError(absl::StrCat("naive-server says '", line, "' instead of its port"));
  }
  return std::make_unique<NaivePeer>(std::move(server), absl::StrCat("127.0.0.1:", number));
}

}  // namespace engram::bench

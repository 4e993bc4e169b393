#include "tests/bench/peers/naive_server.h"

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "peers/naive.grpc.pb.h"
#include "storage/synth_rows.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {
namespace {

class NaiveServer final : public NaiveService::Service {
 public:
  explicit NaiveServer(uint64_t rows) : rows_(rows), table_(rows * kSynthRowBytes) {
    for (uint64_t row = 0; row < rows; ++row) {
      SynthRow(kPeerSeed, kPeerLayer, row, table_.data() + row * kSynthRowBytes);
    }
  }

  grpc::Status Gather(grpc::ServerContext*, const NaiveGatherRequest* request,
                      NaiveGatherResponse* response) override {
    std::string& out = *response->mutable_rows();
    out.resize(static_cast<size_t>(request->ids_size()) * kSynthRowBytes);
    char* at = out.data();
    for (const uint64_t row : request->ids()) {
      if (row >= rows_) return {grpc::StatusCode::OUT_OF_RANGE, absl::StrCat("no row ", row)};
      std::memcpy(at, table_.data() + row * kSynthRowBytes, kSynthRowBytes);
      at += kSynthRowBytes;
    }
    return grpc::Status::OK;
  }

 private:
  const uint64_t rows_;
  std::vector<uint8_t> table_;
};

}  // namespace

absl::Status RunNaiveServer(uint64_t rows) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // before gRPC starts threads, which inherit it

  NaiveServer service(rows);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError("cannot listen on loopback");
  std::printf("port %d\n", port);
  std::fflush(stdout);

  int signal = 0;
  sigwait(&ends, &signal);
  server->Shutdown(std::chrono::system_clock::now());
  return absl::OkStatus();
}

}  // namespace engram::bench

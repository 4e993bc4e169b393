#include "service/server.h"

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "service/call.h"
#include "service/gather_stream.h"
#include "service/health_calls.h"
#include "service/unary_calls.h"
#include "service/worker.h"

namespace engram {
namespace {

// "host:port" with the port that was picked; "unix:PATH" as it is.
std::string ActualAddress(const std::string& asked, int port) {
  if (absl::StartsWith(asked, "unix:")) return asked;
  return absl::StrCat(asked.substr(0, asked.rfind(':')), ":", port);
}

absl::StatusOr<std::string> AddPort(const std::unique_ptr<grpc::Server>& server,
                                    const std::string& asked, int port) {
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", asked, ": the address is in use, not this host's, or malformed"));
  }
  return ActualAddress(asked, port);
}

void SetArguments(grpc::ServerBuilder& builder, const ServerOptions& options) {
  // A second server on the port would take half of the connections unnoticed.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument("grpc.http2.max_frame_size", 1 << 20);
  builder.AddChannelArgument("grpc.http2.lookahead_bytes", 16 << 20);
  builder.AddChannelArgument("grpc.http2.bdp_probe", 0);
  builder.AddChannelArgument("grpc.http2.write_buffer_size", 1 << 20);
  // Clients ping every 30 seconds to notice a lost host.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_request_bytes));
}

// gRPC stays up for the life of the process. Taking it down with the last server waits for threads
// of its own, now and then for 10 seconds, which a server that was told to end does not have.
void KeepGrpc() {
  [[maybe_unused]] static const bool kept = [] {
    grpc_init();
    return true;
  }();
}

}  // namespace

class Server::Impl {
 public:
  Impl(std::shared_ptr<const Table> table, const ServerOptions& options)
      : table_(std::move(table)), options_(options) {}
  ~Impl() { Stop(absl::ZeroDuration(), absl::ZeroDuration()); }

  absl::Status Start();
  void Enter(Phase phase);
  void Stop(absl::Duration notice, absl::Duration grace);

  std::string address;
  std::string health_address;

 private:
  absl::StatusOr<std::unique_ptr<Worker>> NewWorker(grpc::ServerBuilder& builder,
                                                    AsyncHealthService& health);
  absl::Status StartHealthServer();
  void OnStoreFailure();

  const std::shared_ptr<const Table> table_;
  const ServerOptions options_;
  AsyncEngramService engram_;
  AsyncHealthService health_;
  AsyncHealthService extra_health_;  // of the second port
  std::atomic<Phase> phase_{Phase::kServing};
  Mutex mutex_;  // of changes of the phase
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // Declared before the servers: a queue must outlive its server.
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<Worker> health_worker_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> health_server_;
};

absl::Status Server::Impl::Start() {
  KeepGrpc();
  grpc::EnableDefaultHealthCheckService(false);
  grpc::ServerBuilder builder;
  SetArguments(builder, options_);
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&engram_);
  builder.RegisterService(&health_);
  const uint32_t threads =
      options_.threads != 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) {
    ASSIGN_OR_RETURN(workers_.emplace_back(), NewWorker(builder, health_));
  }
  server_ = builder.BuildAndStart();
  ASSIGN_OR_RETURN(address, AddPort(server_, options_.listen, port));
  for (auto& worker : workers_) {
    CallContext& context = worker->context();
    ListenForDescribe(context);
    ListenForGather(context);
    GatherStream::Listen(context);
    ListenForHealthCheck(context);
    ListenForHealthWatch(context);
    worker->Start();
  }
  if (!options_.health.empty()) RETURN_IF_ERROR(StartHealthServer());
  table_->rows->state().Listen([this] { OnStoreFailure(); });
  return absl::OkStatus();
}

// The second port: services are shared over all ports of one grpc::Server, so it is another one.
absl::Status Server::Impl::StartHealthServer() {
  grpc::ServerBuilder builder;
  SetArguments(builder, options_);
  int port = 0;
  builder.AddListeningPort(options_.health, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&extra_health_);
  ASSIGN_OR_RETURN(health_worker_, NewWorker(builder, extra_health_));
  health_server_ = builder.BuildAndStart();
  ASSIGN_OR_RETURN(health_address, AddPort(health_server_, options_.health, port));
  ListenForHealthCheck(health_worker_->context());
  ListenForHealthWatch(health_worker_->context());
  health_worker_->Start();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Worker>> Server::Impl::NewWorker(grpc::ServerBuilder& builder,
                                                                AsyncHealthService& health) {
  ASSIGN_OR_RETURN(std::shared_ptr<AnswerPool> pool,
                   AnswerPool::Create(AnswerBufferBytes(table_->rows->layout().row_bytes())));
  return std::make_unique<Worker>(CallContext{*table_, options_, engram_, health, std::move(pool),
                                              builder.AddCompletionQueue(), phase_});
}

void Server::Impl::Enter(Phase phase) {
  MutexLock lock(&mutex_);
  if (phase <= phase_.load()) return;
  phase_ = phase;
  for (auto& worker : workers_) worker->Tell(phase);
  if (!health_address.empty()) health_worker_->Tell(phase);  // Else its queue is shut down already.
}

// From whatever thread has found it. Health and new requests see the failure by themselves; calls
// that wait for a change are told.
void Server::Impl::OnStoreFailure() {
  MutexLock lock(&mutex_);
  if (phase_.load() >= Phase::kClosing) return;  // A queue may be shut down.
  for (auto& worker : workers_) worker->TellStoreFailure();
  if (!health_address.empty()) health_worker_->TellStoreFailure();
}

void Server::Impl::Stop(absl::Duration notice, absl::Duration grace) {
  {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  table_->rows->state().Listen(nullptr);
  const bool serving = server_ != nullptr && !address.empty();
  if (serving) {
    Enter(Phase::kDraining);
    absl::SleepFor(notice);
    Enter(Phase::kEnding);
    const auto deadline = absl::ToChronoTime(absl::Now() + grace);
    server_->Shutdown(deadline);
    if (!health_address.empty()) health_server_->Shutdown(absl::ToChronoTime(absl::Now()));
    Enter(Phase::kClosing);
  }
  for (auto& worker : workers_) worker->Join();
  if (health_worker_ != nullptr) health_worker_->Join();
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(std::shared_ptr<const Table> table,
                                                      const ServerOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>(std::move(table), options);
  RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

const std::string& Server::address() const { return impl_->address; }
const std::string& Server::health_address() const { return impl_->health_address; }
void Server::BeginDrain() { impl_->Enter(Phase::kDraining); }
void Server::Stop(absl::Duration notice, absl::Duration grace) { impl_->Stop(notice, grace); }

}  // namespace engram

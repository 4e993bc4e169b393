#include "service/server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "service/call.h"
#include "service/change_calls.h"
#include "service/gather_stream.h"
#include "service/health_calls.h"
#include "service/listening.h"
#include "service/unary_calls.h"
#include "service/worker.h"

namespace engram {
namespace {

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

}  // namespace

class Server::Impl {
 public:
  Impl(std::shared_ptr<const Table> table, const ServerOptions& options, Generations* generations,
       std::shared_ptr<HealthPort> health_port)
      : table_(std::move(table)),
        options_(options),
        own_generations_(generations == nullptr ? std::make_unique<Generations>(table_) : nullptr),
        generations_(generations == nullptr ? *own_generations_ : *generations),
        limits_(options.max_streams_per_client, options.max_rows_in_flight_per_client),
        health_port_(std::move(health_port)) {}
  ~Impl() { Stop(absl::ZeroDuration(), absl::ZeroDuration()); }

  absl::Status Start();
  void Enter(Phase phase);
  void Stop(absl::Duration notice, absl::Duration grace);
  bool draining() const { return phase_.load() != Phase::kServing; }
  ServerCounts counts() const;
  SecurityCounts security_counts() const { return security_->counts(); }
  std::vector<SlowRequest> slow_requests() const;

  std::string address;
  std::string health_address() const {
    return health_port_ == nullptr ? "" : health_port_->address();
  }

 private:
  absl::StatusOr<std::unique_ptr<Worker>> NewWorker(grpc::ServerBuilder& builder);
  void OnStoreFailure();
  void OnHeldChanged();

  const std::shared_ptr<const Table> table_;
  const ServerOptions options_;
  const std::unique_ptr<Generations> own_generations_;
  Generations& generations_;
  ClientLimits limits_;
  std::shared_ptr<HealthPort> health_port_;  // null: none
  ChangeThread changes_;
  AsyncEngramService engram_;
  AsyncHealthService health_;
  std::atomic<Phase> phase_{Phase::kServing};
  Mutex mutex_;  // of changes of the phase
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Security> security_;  // of which the server reads
  // Declared before the servers: a queue must outlive its server.
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<grpc::Server> server_;
};

absl::Status Server::Impl::Start() {
  PrepareGrpc();
  ASSIGN_OR_RETURN(security_, Security::Create(options_.security, options_.listen));
  grpc::ServerBuilder builder;
  SetArguments(builder, options_);
  int port = 0;
  builder.AddListeningPort(options_.listen, security_->credentials(), &port);
  builder.RegisterService(&engram_);
  builder.RegisterService(&health_);
  const uint32_t threads =
      options_.threads != 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) {
    ASSIGN_OR_RETURN(workers_.emplace_back(), NewWorker(builder));
  }
  server_ = builder.BuildAndStart();
  ASSIGN_OR_RETURN(address, ListenedAddress(server_, options_.listen, port));
  for (auto& worker : workers_) {
    CallContext& context = worker->context();
    ListenForDescribe(context);
    ListenForGather(context);
    ListenForChanges(context);
    GatherStream::Listen(context);
    ListenForHealth(context);
    worker->Start();
  }
  if (health_port_ == nullptr && !options_.health.empty()) {
    ASSIGN_OR_RETURN(health_port_, HealthPort::Start(options_.health));
  }
  if (health_port_ != nullptr) health_port_->SetReady(true);
  table_->rows->state().Listen([this] { OnStoreFailure(); });
  generations_.Listen([this] { OnHeldChanged(); });
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Worker>> Server::Impl::NewWorker(grpc::ServerBuilder& builder) {
  ASSIGN_OR_RETURN(std::shared_ptr<AnswerPool> pool,
                   AnswerPool::Create(AnswerBufferBytes(table_->rows->layout().row_bytes())));
  return std::make_unique<Worker>(CallContext{*table_, generations_, changes_, options_, *security_,
                                              limits_, engram_, health_, std::move(pool),
                                              builder.AddCompletionQueue(), phase_});
}

void Server::Impl::Enter(Phase phase) {
  MutexLock lock(&mutex_);
  if (phase <= phase_.load()) return;
  if (health_port_ != nullptr) health_port_->SetReady(false);
  phase_ = phase;
  for (auto& worker : workers_) worker->Tell(phase);
}

// From whatever thread has found it. Health and new requests see the failure by themselves; calls
// that wait for a change are told.
void Server::Impl::OnStoreFailure() {
  MutexLock lock(&mutex_);
  if (phase_.load() >= Phase::kClosing) return;  // A queue may be shut down.
  for (auto& worker : workers_) worker->TellStoreFailure();
  if (health_port_ != nullptr) health_port_->SetReady(false);
}

// Threads that serve see it by themselves with their next request; those that sleep would keep what
// is held no more. Clients are told.
void Server::Impl::OnHeldChanged() {
  MutexLock lock(&mutex_);
  if (phase_.load() >= Phase::kClosing) return;
  for (auto& worker : workers_) worker->TellHeldChanged();
}

ServerCounts Server::Impl::counts() const {
  ServerCounts counts;
  for (const auto& worker : workers_) counts.Add(*worker->context().counters);
  return counts;
}

std::vector<SlowRequest> Server::Impl::slow_requests() const {
  std::vector<SlowRequest> all;
  const int64_t now_ns = absl::GetCurrentTimeNanos();
  for (const auto& worker : workers_) worker->context().slow->AddTo(all, now_ns);
  std::sort(all.begin(), all.end(),
            [](const SlowRequest& a, const SlowRequest& b) { return a.took_ns() > b.took_ns(); });
  return all;
}

void Server::Impl::Stop(absl::Duration notice, absl::Duration grace) {
  {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  table_->rows->state().Listen(nullptr);
  generations_.Listen(nullptr);
  const bool serving = server_ != nullptr && !address.empty();
  if (serving) {
    Enter(Phase::kDraining);
    absl::SleepFor(notice);
    Enter(Phase::kEnding);
    const auto deadline = absl::ToChronoTime(absl::Now() + grace);
    server_->Shutdown(deadline);
    Enter(Phase::kClosing);
  }
  for (auto& worker : workers_) worker->Join();
  health_port_.reset();
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(std::shared_ptr<const Table> table,
                                                      const ServerOptions& options,
                                                      Generations* generations,
                                                      std::shared_ptr<HealthPort> health_port) {
  RETURN_IF_ERROR(options.Validate());
  auto impl =
      std::make_unique<Impl>(std::move(table), options, generations, std::move(health_port));
  RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

const std::string& Server::address() const { return impl_->address; }
std::string Server::health_address() const { return impl_->health_address(); }
bool Server::draining() const { return impl_->draining(); }
ServerCounts Server::counts() const { return impl_->counts(); }
SecurityCounts Server::security_counts() const { return impl_->security_counts(); }
std::vector<SlowRequest> Server::slow_requests() const { return impl_->slow_requests(); }
void Server::BeginDrain() { impl_->Enter(Phase::kDraining); }
void Server::Stop(absl::Duration notice, absl::Duration grace) { impl_->Stop(notice, grace); }

}  // namespace engram

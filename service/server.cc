#include "service/server.h"

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <algorithm>
#include <array>
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

namespace engram {
namespace {

// Rows of one message: 256 KiB keep the pipe busy and let a small answer pass between two pieces.
constexpr size_t kPieceBytes = 256 << 10;

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

}  // namespace

class Server::Impl {
 public:
  Impl(std::shared_ptr<const Table> table, const ServerOptions& options)
      : table_(std::move(table)),
        options_(options),
        pool_(
            AnswerPool::Create(std::max<size_t>(kPieceBytes, table_->rows->layout().row_bytes()))) {
  }

  absl::Status Start();
  void Enter(Phase phase);
  void Stop(absl::Duration notice, absl::Duration grace);
  ~Impl() { Stop(absl::ZeroDuration(), absl::ZeroDuration()); }

  std::string address;
  std::string health_address;

 private:
  // A queue, its thread, and the alarm that brings a new phase to it.
  struct Worker {
    explicit Worker(CallContext call_context) : context(std::move(call_context)) {}
    CallContext context;
    std::thread thread;
    struct Notice {
      grpc::Alarm alarm;
      std::unique_ptr<Completion> completion;  // made before the thread runs
    };
    std::array<Notice, 3> notices;  // of kDraining, kEnding, kClosing
    bool closing = false;           // kClosing has come to the thread
    bool shut_down = false;
  };

  std::unique_ptr<Worker> NewWorker(grpc::ServerBuilder& builder, AsyncHealthService& health);
  static void Notify(Worker& worker, Phase phase);
  void Run(Worker& worker);
  bool Poll(Worker& worker);
  absl::Status StartHealthServer();

  const std::shared_ptr<const Table> table_;
  const ServerOptions options_;
  const std::shared_ptr<AnswerPool> pool_;
  AsyncEngramService engram_;
  AsyncHealthService health_;
  AsyncHealthService extra_health_;  // of the second port, on the same queues
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
  grpc::EnableDefaultHealthCheckService(false);
  grpc::ServerBuilder builder;
  SetArguments(builder, options_);
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&engram_);
  builder.RegisterService(&health_);
  const uint32_t threads =
      options_.threads != 0 ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) workers_.push_back(NewWorker(builder, health_));
  server_ = builder.BuildAndStart();
  absl::StatusOr<std::string> listening = AddPort(server_, options_.listen, port);
  if (!listening.ok()) {
    for (auto& worker : workers_) worker->context.queue->Shutdown();
  } else {
    address = *listening;
    for (auto& worker : workers_) {
      ListenForDescribe(worker->context);
      ListenForGather(worker->context);
      GatherStream::Listen(worker->context);
      ListenForHealthCheck(worker->context);
      ListenForHealthWatch(worker->context);
    }
  }
  for (auto& worker : workers_) {
    worker->thread = std::thread([this, &worker = *worker] { Run(worker); });
  }
  RETURN_IF_ERROR(listening.status());
  return options_.health.empty() ? absl::OkStatus() : StartHealthServer();
}

// The second port: services are shared over all ports of one grpc::Server, so it is another one.
absl::Status Server::Impl::StartHealthServer() {
  grpc::ServerBuilder builder;
  SetArguments(builder, options_);
  int port = 0;
  builder.AddListeningPort(options_.health, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&extra_health_);
  health_worker_ = NewWorker(builder, extra_health_);
  health_server_ = builder.BuildAndStart();
  absl::StatusOr<std::string> listening = AddPort(health_server_, options_.health, port);
  if (!listening.ok()) {
    health_worker_->context.queue->Shutdown();
  } else {
    health_address = *listening;
    ListenForHealthCheck(health_worker_->context);
    ListenForHealthWatch(health_worker_->context);
  }
  health_worker_->thread = std::thread([this] { Run(*health_worker_); });
  return listening.status();
}

std::unique_ptr<Server::Impl::Worker> Server::Impl::NewWorker(grpc::ServerBuilder& builder,
                                                              AsyncHealthService& health) {
  auto worker = std::make_unique<Worker>(
      CallContext{*table_, options_, engram_, health, pool_, builder.AddCompletionQueue(), phase_});
  for (const Phase phase : {Phase::kDraining, Phase::kEnding, Phase::kClosing}) {
    worker->notices[static_cast<size_t>(phase) - 1].completion =
        std::make_unique<Completion>([phase, &worker = *worker](bool) { Notify(worker, phase); });
  }
  return worker;
}

// Brings a new phase to the calls, on their thread.
void Server::Impl::Notify(Worker& worker, Phase phase) {
  if (phase == Phase::kClosing) worker.closing = true;
  for (LongCall* call : worker.context.long_calls) {  // None is deleted by what it does here.
    if (phase == Phase::kDraining) call->BeginDrain();
    if (phase == Phase::kEnding) call->End();
  }
}

void Server::Impl::Run(Worker& worker) {
  pthread_setname_np(pthread_self(), "engram-serve");
  while (Poll(worker)) {
  }
}

// Handles one event, polling for `spin` before it blocks. False when the queue is at its end.
bool Server::Impl::Poll(Worker& worker) {
  void* tag = nullptr;
  bool ok = false;
  grpc::ServerCompletionQueue& queue = *worker.context.queue;
  auto next = grpc::CompletionQueue::TIMEOUT;
  if (options_.spin > absl::ZeroDuration()) {
    const absl::Time until = absl::Now() + options_.spin;
    do {
      next = queue.AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC));
    } while (next == grpc::CompletionQueue::TIMEOUT && absl::Now() < until);
  }
  if (next == grpc::CompletionQueue::TIMEOUT) {
    next = queue.AsyncNext(&tag, &ok, gpr_inf_future(GPR_CLOCK_MONOTONIC));
  }
  if (next != grpc::CompletionQueue::GOT_EVENT) return false;
  static_cast<Completion*>(tag)->run(ok);
  if (worker.closing && worker.context.calls == 0 && !worker.shut_down) {
    worker.shut_down = true;
    queue.Shutdown();
  }
  return true;
}

void Server::Impl::Enter(Phase phase) {
  MutexLock lock(&mutex_);
  if (phase <= phase_.load()) return;
  phase_ = phase;
  const auto tell = [phase](Worker& worker) {
    Worker::Notice& notice = worker.notices[static_cast<size_t>(phase) - 1];
    notice.alarm.Set(worker.context.queue.get(), gpr_now(GPR_CLOCK_MONOTONIC),
                     notice.completion.get());
  };
  for (auto& worker : workers_) tell(*worker);
  if (!health_address.empty()) tell(*health_worker_);  // Else its queue is shut down already.
}

void Server::Impl::Stop(absl::Duration notice, absl::Duration grace) {
  {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
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
  for (auto& worker : workers_) worker->thread.join();
  if (health_worker_ != nullptr) health_worker_->thread.join();
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

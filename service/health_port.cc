#include "service/health_port.h"

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <atomic>
#include <thread>
#include <unordered_set>

#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "service/completion.h"
#include "service/health_calls.h"
#include "service/listening.h"

namespace engram {

class HealthPort::Impl {
 public:
  Impl()
      : changed_([this](bool) {
          told_ = false;
          for (LongCall* const call : long_calls_) call->BeginDrain();
        }),
        ended_([this](bool) { closing_ = true; }) {}
  ~Impl() { End(); }

  absl::Status Start(const std::string& asked) {
    PrepareGrpc();
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    int port = 0;
    builder.AddListeningPort(asked, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&health_);
    queue_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    ASSIGN_OR_RETURN(address, ListenedAddress(server_, asked, port));
    ListenForHealth(std::make_shared<const HealthContext>(
        HealthContext{health_, queue_.get(), long_calls_, calls_, [this] { return ready_.load(); },
                      [this] { return ending_.load(); }}));
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  void SetReady(bool ready) {
    if (ready_.exchange(ready) == ready) return;
    if (!told_.exchange(true)) BringBack(changed_alarm_, queue_.get(), changed_);
  }

  std::string address;

 private:
  // Shutdown cancels the watches; the queue goes when no call is left that could use it.
  void End() {
    if (server_ != nullptr) {
      ending_ = true;
      server_->Shutdown(absl::ToChronoTime(absl::Now()));
    }
    if (thread_.joinable()) {
      BringBack(ended_alarm_, queue_.get(), ended_);
      thread_.join();
    } else if (queue_ != nullptr) {  // It did not start.
      queue_->Shutdown();
      void* tag = nullptr;
      bool ok = false;
      while (queue_->Next(&tag, &ok)) {
      }
    }
  }

  void Run() {
    pthread_setname_np(pthread_self(), "engram-health");
    bool shut_down = false;
    void* tag = nullptr;
    bool ok = false;
    while (queue_->Next(&tag, &ok)) {
      Completion::Of(tag).Run(ok);
      if (closing_ && calls_ == 0 && !told_ && !shut_down) {
        shut_down = true;
        queue_->Shutdown();
      }
    }
  }

  AsyncHealthService health_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> told_{false};  // of a change, and it has not come to the thread yet
  std::atomic<bool> ending_{false};
  // Of the thread.
  bool closing_ = false;
  std::unordered_set<LongCall*> long_calls_;
  size_t calls_ = 0;
  Completion changed_, ended_;
  grpc::Alarm changed_alarm_, ended_alarm_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;  // outlives the server
  std::unique_ptr<grpc::Server> server_;
  std::thread thread_;
};

HealthPort::HealthPort(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HealthPort::~HealthPort() = default;

absl::StatusOr<std::unique_ptr<HealthPort>> HealthPort::Start(const std::string& address) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->Start(address));
  return std::unique_ptr<HealthPort>(new HealthPort(std::move(impl)));
}

const std::string& HealthPort::address() const { return impl_->address; }
void HealthPort::SetReady(bool ready) { impl_->SetReady(ready); }

}  // namespace engram

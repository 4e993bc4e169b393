#include "service/health_calls.h"

#include <string>
#include <utility>

namespace engram {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthCheckResponse Respond(const HealthContext& context, const std::string& service) {
  HealthCheckResponse response;
  if (service == "liveness") {
    response.set_status(HealthCheckResponse::SERVING);
  } else if (service.empty() || service == v1::EngramService::service_full_name()) {
    response.set_status(context.ready() ? HealthCheckResponse::SERVING
                                        : HealthCheckResponse::NOT_SERVING);
  } else {
    response.set_status(HealthCheckResponse::SERVICE_UNKNOWN);
  }
  return response;
}

class CheckCall {
 public:
  explicit CheckCall(std::shared_ptr<const HealthContext> context)
      : context_(std::move(context)),
        count_(context_->calls),
        writer_(&server_context_),
        started_([this](bool ok) { OnStarted(ok); }),
        finished_([this](bool) { delete this; }) {
    context_->health.RequestCheck(&server_context_, &request_, &writer_, context_->queue,
                                  context_->queue, started_.Tag());
  }

 private:
  void OnStarted(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    if (!context_->ending()) new CheckCall(context_);
    const HealthCheckResponse response = Respond(*context_, request_.service());
    if (response.status() != HealthCheckResponse::SERVICE_UNKNOWN) {
      writer_.Finish(response, grpc::Status::OK, finished_.Tag());
    } else {
      writer_.FinishWithError({grpc::StatusCode::NOT_FOUND, "unknown service"}, finished_.Tag());
    }
  }

  const std::shared_ptr<const HealthContext> context_;
  const CallCount count_;
  grpc::ServerContext server_context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncResponseWriter<HealthCheckResponse> writer_;
  Completion started_, finished_;
};

// Says the state at once, and again when it changes. Runs on its queue's thread alone.
class WatchCall final : public LongCall {
 public:
  explicit WatchCall(std::shared_ptr<const HealthContext> context)
      : context_(std::move(context)),
        count_(context_->calls),
        writer_(&server_context_),
        started_([this](bool ok) { OnStarted(ok); }),
        written_([this](bool ok) { OnWritten(ok); }),
        finished_([this](bool) { OnFinished(); }),
        closed_([this](bool) { OnClosed(); }) {
    server_context_.AsyncNotifyWhenDone(closed_.Tag());
    context_->health.RequestWatch(&server_context_, &request_, &writer_, context_->queue,
                                  context_->queue, started_.Tag());
  }
  ~WatchCall() override { context_->long_calls.erase(this); }

  void BeginDrain() override { Say(); }
  void OnStoreFailure() override { Say(); }
  void End() override {
    ending_ = true;
    FinishIfQuiet();
  }

 private:
  void OnStarted(bool ok) {
    if (!ok) {  // AsyncNotifyWhenDone's tag does not come for a call that never started.
      delete this;
      return;
    }
    if (!context_->ending()) new WatchCall(context_);
    context_->long_calls.insert(this);
    Say();
    if (context_->ending()) End();
  }

  void Say() {
    if (writing_ || finishing_) {
      again_ = true;
      return;
    }
    const HealthCheckResponse response = Respond(*context_, request_.service());
    if (response.status() == said_) return;
    said_ = response.status();
    writing_ = true;
    writer_.Write(response, written_.Tag());
  }

  void OnWritten(bool ok) {
    writing_ = false;
    if (!ok) ending_ = true;
    if (ok && again_) {
      again_ = false;
      Say();
    }
    FinishIfQuiet();
  }

  void OnClosed() {
    closed_done_ = true;
    ending_ = true;
    FinishIfQuiet();
    if (finished_done_) delete this;
  }

  void FinishIfQuiet() {
    if (!ending_ || writing_ || finishing_) return;
    finishing_ = true;
    writer_.Finish(grpc::Status::OK, finished_.Tag());
  }

  void OnFinished() {
    finished_done_ = true;
    if (closed_done_) delete this;
  }

  const std::shared_ptr<const HealthContext> context_;
  const CallCount count_;
  grpc::ServerContext server_context_;
  HealthCheckRequest request_;
  grpc::ServerAsyncWriter<HealthCheckResponse> writer_;
  HealthCheckResponse::ServingStatus said_ = HealthCheckResponse::UNKNOWN;
  bool writing_ = false;
  bool again_ = false;
  bool ending_ = false;
  bool finishing_ = false;
  bool finished_done_ = false;
  bool closed_done_ = false;
  Completion started_, written_, finished_, closed_;
};

}  // namespace

void ListenForHealth(std::shared_ptr<const HealthContext> context) {
  new CheckCall(context);
  new WatchCall(std::move(context));
}

void ListenForHealth(CallContext& context) {
  ListenForHealth(std::make_shared<const HealthContext>(HealthContext{
      context.health, context.queue.get(), context.long_calls, context.calls,
      [&context] {
        return context.phase == Phase::kServing && !context.table.rows->state().failed();
      },
      [&context] { return context.phase >= Phase::kEnding; }}));
}

}  // namespace engram

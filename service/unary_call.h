// One request, one response.
#ifndef ENGRAM_SERVICE_UNARY_CALL_H_
#define ENGRAM_SERVICE_UNARY_CALL_H_

#include <grpcpp/alarm.h>

#include <functional>
#include <optional>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "proto/grpc_status.h"
#include "service/call.h"
#include "service/unary_calls.h"

namespace engram {

// Where a handler runs.
enum class AnswerOn {
  kServing,  // the queue's thread
  kChange,   // the thread of changes: of the context it may use `generations` alone
};

// What a call must be allowed to do.
inline Right RightOf(UnaryMethod method) {
  return method == UnaryMethod::kDescribe || method == UnaryMethod::kGather ? Right::kLookUp
                                                                            : Right::kPublish;
}

// By which a call is counted.
inline UnaryMethod MethodOf(const v1::DescribeRequest&) { return UnaryMethod::kDescribe; }
inline UnaryMethod MethodOf(const v1::GatherRequest&) { return UnaryMethod::kGather; }
inline UnaryMethod MethodOf(const v1::PublishRequest&) { return UnaryMethod::kPublish; }
inline UnaryMethod MethodOf(const v1::ActivateRequest&) { return UnaryMethod::kActivate; }
inline UnaryMethod MethodOf(const v1::RetireRequest&) { return UnaryMethod::kRetire; }

// One unary call: waits, answers, deletes itself.
template <typename Request, typename Response>
class UnaryCall {
 public:
  using Writer = grpc::ServerAsyncResponseWriter<Response>;
  using RequestMethod = void (AsyncEngramService::*)(grpc::ServerContext*, Request*, Writer*,
                                                     grpc::CompletionQueue*,
                                                     grpc::ServerCompletionQueue*, void*);
  using Handler = absl::Status (*)(CallContext&, const Request&, Response&);
  // Nothing: `later` is called once, by any thread; request and response stay until then.
  using Later = std::function<void(absl::Status)>;
  using LaterHandler = std::optional<absl::Status> (*)(CallContext&, const Request&, Response&,
                                                       Later later);

  UnaryCall(CallContext& context, RequestMethod method, Handler handler, AnswerOn thread)
      : UnaryCall(context, method, handler, nullptr, thread) {}
  // The handler runs on the queue's thread.
  UnaryCall(CallContext& context, RequestMethod method, LaterHandler handler)
      : UnaryCall(context, method, nullptr, handler, AnswerOn::kServing) {}

 private:
  UnaryCall(CallContext& context, RequestMethod method, Handler handler, LaterHandler later,
            AnswerOn thread)
      : context_(context),
        count_(context),
        method_(method),
        handler_(handler),
        later_handler_(later),
        thread_(thread),
        writer_(&server_context_),
        started_([this](bool ok) { OnStarted(ok); }),
        handled_([this](bool) { Finish(status_); }),
        finished_([this](bool) { delete this; }) {
    (context_.engram.*method_)(&server_context_, &request_, &writer_, context_.queue.get(),
                               context_.queue.get(), started_.Tag());
  }

  void OnStarted(bool ok) {
    if (!ok) {  // The server shuts down: no call came.
      delete this;
      return;
    }
    if (context_.phase < Phase::kEnding) {
      new UnaryCall(context_, method_, handler_, later_handler_, thread_);
    }
    came_ = absl::Now();
    counters().started.Add(1);
    const absl::Status allowed =
        context_.security.Authorize(server_context_, RightOf(MethodOf(request_)));
    if (!allowed.ok()) return Finish(allowed);
    if (later_handler_ != nullptr) {
      const auto status = later_handler_(context_, request_, response_, [this](absl::Status late) {
        FinishLater(std::move(late));
      });
      if (status.has_value()) Finish(*status);
    } else if (thread_ == AnswerOn::kServing) {
      Finish(handler_(context_, request_, response_));
    } else {
      context_.changes.Add([this] { FinishLater(handler_(context_, request_, response_)); });
    }
  }

  // On any thread: the queue's one finishes. The object may be gone when this returns.
  void FinishLater(absl::Status status) {
    status_ = std::move(status);
    BringBack(handled_alarm_, context_.queue.get(), handled_);
  }

  // On the queue's thread.
  void Finish(const absl::Status& status) {
    const absl::Duration took = absl::Now() - came_;
    counters().Finish(status, took);
    if constexpr (std::is_same_v<Request, v1::GatherRequest>) {
      CountUnaryGather(context_, request_, response_, status, took);
    }
    if (!status.ok()) {
      const auto method = static_cast<size_t>(MethodOf(request_));
      context_.LogError(kUnaryMethods[method], server_context_.peer(), status);
    }
    if (status.ok()) {
      writer_.Finish(response_, grpc::Status::OK, finished_.Tag());
    } else {
      writer_.FinishWithError(ToGrpcStatus(status), finished_.Tag());
    }
  }

  UnaryCounters& counters() {
    return context_.counters->unary[static_cast<size_t>(MethodOf(request_))];
  }

  CallContext& context_;
  const CallCount count_;
  const RequestMethod method_;
  const Handler handler_;             // or
  const LaterHandler later_handler_;  // this one
  const AnswerOn thread_;
  grpc::ServerContext server_context_;
  Request request_;
  Response response_;
  absl::Time came_;
  absl::Status status_;  // of what was finished later
  Writer writer_;
  grpc::Alarm handled_alarm_;
  Completion started_, handled_, finished_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_UNARY_CALL_H_

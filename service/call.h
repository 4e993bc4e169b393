// What the calls of one completion queue share.
#ifndef ENGRAM_SERVICE_CALL_H_
#define ENGRAM_SERVICE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "engram/v1/engram.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "service/answer_pool.h"
#include "service/backlog.h"
#include "service/change_thread.h"
#include "service/client_limits.h"
#include "service/completion.h"
#include "service/metrics.h"
#include "service/security.h"
#include "service/server_options.h"
#include "service/slow_requests.h"
#include "service/turns.h"
#include "storage/generations.h"
#include "storage/table.h"

namespace engram {

// Only GatherStream is raw: its messages are encoded by hand (proto/wire.h).
using AsyncEngramService = v1::EngramService::WithRawMethod_GatherStream<
    v1::EngramService::WithAsyncMethod_Gather<v1::EngramService::WithAsyncMethod_Describe<
        v1::EngramService::WithAsyncMethod_Publish<v1::EngramService::WithAsyncMethod_Activate<
            v1::EngramService::WithAsyncMethod_Retire<v1::EngramService::Service>>>>>>;
using AsyncHealthService = grpc::health::v1::Health::WithAsyncMethod_Check<
    grpc::health::v1::Health::WithAsyncMethod_Watch<grpc::health::v1::Health::Service>>;

// A long-lived call that must hear of what becomes of the server, on its thread. Each may come
// twice.
class LongCall {
 public:
  virtual ~LongCall() = default;
  virtual void BeginDrain() = 0;  // nothing new is taken from now on
  virtual void OnStoreFailure() {}
  virtual void OnHeldChanged() {}  // CallContext::Held is another
  virtual void End() = 0;          // finish the call as soon as nothing is left to answer
};

// How far the server's life has come. All see it at once; long calls are told on their thread.
// kClosing comes after grpc::Server::Shutdown, which has cancelled whatever was left.
enum class Phase { kServing, kDraining, kEnding, kClosing };

// Belongs to its queue's thread once that runs.
struct CallContext {
  const Table& table;
  Generations& generations;
  ChangeThread& changes;  // of generations
  const ServerOptions& options;
  Security& security;
  ClientLimits& limits;
  AsyncEngramService& engram;
  AsyncHealthService& health;
  std::shared_ptr<AnswerPool> pool;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  const std::atomic<Phase>& phase;  // the server's
  std::unordered_set<LongCall*> long_calls = {};
  Turns answers = {};  // notices, errors and decode
  Turns prefill = {};
  Lateness lateness = {};
  Backlog backlog = {};
  absl::Time last_decode = absl::InfinitePast();  // when the last decode request came
  // What is held, as this thread knows it; brought up to date by whoever looks at it.
  std::shared_ptr<const GenerationSet> held = nullptr;
  uint64_t held_version = 0;
  // Call objects alive, those that wait for a call included. A queue must not be shut down before
  // they are gone: they would start operations on it.
  size_t calls = 0;
  std::shared_ptr<ServerCounters> counters = std::make_shared<ServerCounters>();
  std::shared_ptr<SlowRequests> slow = std::make_shared<SlowRequests>();

  // Of whom and what, and the error that it was answered by.
  void LogError(absl::string_view what, const std::string& peer, const absl::Status& status) const {
    if (!options.log) return;
    options.log(absl::StrCat(what, " of ", peer, ": ", absl::StatusCodeToString(status.code()),
                             ": ", status.message()));
  }

  const GenerationSet& Held() {
    if (const uint64_t version = generations.version(); version != held_version) {
      held = generations.current();
      held_version = version;
    }
    return *held;
  }
};

// Counts the object that holds it.
class CallCount {
 public:
  explicit CallCount(CallContext& context) : CallCount(context.calls) {}
  explicit CallCount(size_t& calls) : calls_(calls) { ++calls_; }
  ~CallCount() { --calls_; }
  CallCount(const CallCount&) = delete;
  CallCount& operator=(const CallCount&) = delete;

 private:
  size_t& calls_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_CALL_H_

// What the calls of one completion queue share.
#ifndef ENGRAM_SERVICE_CALL_H_
#define ENGRAM_SERVICE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <unordered_set>

#include "engram/v1/engram.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "service/answer_pool.h"
#include "service/completion.h"
#include "service/server_options.h"
#include "storage/table.h"

namespace engram {

// Only GatherStream is raw: its messages are encoded by hand (proto/wire.h).
using AsyncEngramService =
    v1::EngramService::WithRawMethod_GatherStream<v1::EngramService::WithAsyncMethod_Gather<
        v1::EngramService::WithAsyncMethod_Describe<v1::EngramService::Service>>>;
using AsyncHealthService = grpc::health::v1::Health::WithAsyncMethod_Check<
    grpc::health::v1::Health::WithAsyncMethod_Watch<grpc::health::v1::Health::Service>>;

// A long-lived call that must hear of what becomes of the server, on its thread. Each may come
// twice.
class LongCall {
 public:
  virtual ~LongCall() = default;
  virtual void BeginDrain() = 0;  // nothing new is taken from now on
  virtual void OnStoreFailure() {}
  virtual void End() = 0;  // finish the call as soon as nothing is left to answer
};

// Calls that wait until their queue has no event left: prefill gives way to whatever is there, on
// every connection of the thread. One turn is one piece of an answer, and goes round.
class Turns {
 public:
  class Taker {
   public:
    virtual ~Taker() = default;
    virtual void TakeTurn() = 0;

   private:
    friend class Turns;
    bool waiting_ = false;
  };

  void Add(Taker& taker) {
    if (!taker.waiting_) waiting_.push_back(&taker);
    taker.waiting_ = true;
  }
  // For one that goes away.
  void Remove(Taker& taker) {
    if (taker.waiting_) std::erase(waiting_, &taker);
    taker.waiting_ = false;
  }
  // False: nobody waits.
  bool GiveOne() {
    if (waiting_.empty()) return false;
    Taker* const taker = waiting_.front();
    waiting_.pop_front();
    taker->waiting_ = false;
    taker->TakeTurn();
    return true;
  }

 private:
  std::deque<Taker*> waiting_;
};

// How far the server's life has come. All see it at once; long calls are told on their thread.
// kClosing comes after grpc::Server::Shutdown, which has cancelled whatever was left.
enum class Phase { kServing, kDraining, kEnding, kClosing };

// Belongs to its queue's thread once that runs.
struct CallContext {
  const Table& table;
  const ServerOptions& options;
  AsyncEngramService& engram;
  AsyncHealthService& health;
  std::shared_ptr<AnswerPool> pool;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  const std::atomic<Phase>& phase;  // the server's
  std::unordered_set<LongCall*> long_calls = {};
  Turns prefill = {};
  absl::Time last_decode = absl::InfinitePast();  // when the last decode request came
  // Call objects alive, those that wait for a call included. A queue must not be shut down before
  // they are gone: they would start operations on it.
  size_t calls = 0;
};

// Counts the object that holds it.
class CallCount {
 public:
  explicit CallCount(CallContext& context) : context_(context) { ++context_.calls; }
  ~CallCount() { --context_.calls; }
  CallCount(const CallCount&) = delete;
  CallCount& operator=(const CallCount&) = delete;

 private:
  CallContext& context_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_CALL_H_

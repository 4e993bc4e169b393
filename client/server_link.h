// The connection to one server: describe it, hold one stream to it, reconnect when it is lost.
#ifndef ENGRAM_CLIENT_SERVER_LINK_H_
#define ENGRAM_CLIENT_SERVER_LINK_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/describe_call.h"
#include "proto/wire.h"

namespace engram {

// What a completion queue's tag points to.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual void Run(bool ok) = 0;
};

// Invariants
// 1. Everything happens on the thread that polls the queue: no locks.
// 2. At most one read and one write are under way; Finish is called when neither is, and the stream
//    is destroyed when Finish is done.
// 3. After usable() became true, OnDown is called exactly once before it becomes true again.
class ServerLink {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // A server described itself. Anything but OK keeps the link down (and asks again later).
    virtual absl::Status Accept(size_t server, ServerInfo info) = 0;
    virtual void OnUp(size_t server) = 0;
    // One message of the stream; `message` holds the row bytes at the place that `response` names.
    // Anything but OK means that the stream cannot be trusted any more: it is dropped.
    virtual absl::Status OnResponse(size_t server, const StreamResponse& response,
                                    const grpc::ByteBuffer& message) = 0;
    // The stream is gone; nothing sent on it will be answered.
    virtual void OnDown(size_t server, const absl::Status& why) = 0;
  };

  // Borrows `queue` and `listener`. `wanted` as for ParseDescribe.
  ServerLink(size_t server, std::string address, std::optional<Sha256> wanted,
             grpc::CompletionQueue* queue, Listener* listener);

  // Starts connecting when it is time to. Call it when next_tick() has come.
  void Tick(absl::Time now);
  absl::Time next_tick() const { return next_tick_; }

  // Queues one message. Only while usable().
  void Send(const grpc::ByteBuffer& message);

  // Gives up for good; idle() comes true once the queue has delivered what is under way.
  void Shutdown();
  bool idle() const { return state_ == State::kWaiting; }

  bool usable() const { return state_ == State::kUp && !draining_; }
  // An attempt to connect has come to its end, well or badly.
  bool tried() const { return tried_; }
  // Why it is not usable; OK while it is.
  const absl::Status& status() const { return status_; }
  const std::string& address() const { return address_; }

 private:
  enum class State { kWaiting, kDescribing, kStarting, kUp, kClosing };

  struct Step final : Completion {
    explicit Step(std::function<void(bool)> then) : then(std::move(then)) {}
    void Run(bool ok) override { then(ok); }
    const std::function<void(bool)> then;
  };

  void Describe();
  void OnDescribed(bool ok);
  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);

  void Fail(absl::Status why);   // before the stream is up
  void Close(absl::Status why);  // drops the stream
  void FinishIfQuiet();
  void WriteNext();
  void Retry();

  const size_t server_;
  const std::string address_;
  const std::optional<Sha256> wanted_;
  grpc::CompletionQueue* const queue_;
  Listener* const listener_;

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::EngramService::Stub> stub_;
  grpc::GenericStub generic_stub_;

  State state_ = State::kWaiting;
  bool draining_ = false;
  bool tried_ = false;
  bool shutdown_ = false;
  absl::Status status_;
  absl::Time next_tick_ = absl::InfinitePast();
  absl::Duration backoff_;

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::DescribeResponse>> describe_;
  v1::DescribeResponse description_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::Status finish_status_;
  bool reading_ = false;
  bool writing_ = false;
  bool finishing_ = false;
  grpc::ByteBuffer incoming_;
  StreamResponse response_;
  std::deque<grpc::ByteBuffer> outgoing_;

  Step described_, started_, read_, written_, finished_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SERVER_LINK_H_

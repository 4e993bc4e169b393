// A connection to one server: describe it, hold one stream to it, reconnect when it is lost.
#ifndef ENGRAM_CLIENT_SERVER_LINK_H_
#define ENGRAM_CLIENT_SERVER_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/answer_reader.h"
#include "client/credentials.h"
#include "client/describe.h"
#include "client/event_loop.h"
#include "client/http2_connection.h"
#include "client/server_directory.h"
#include "client/unary_call.h"

namespace engram {

// Invariants
// 1. Everything happens on the event loop's thread: no locks.
// 2. A connection is given up at once and as a whole: after OnDown nothing of it comes any more.
// 3. After usable() became true, OnDown is called exactly once before it becomes true again.
class ServerLink final : public EventLoop::Handler {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // A server described itself. Anything but OK keeps the link down (and asks again later).
    virtual absl::Status Accept(size_t link, ServerInfo info) = 0;
    // A server that was accepted has described itself again.
    virtual void OnDescribed(size_t link, ServerInfo info) = 0;
    // usable(), tried(), status() or next_tick() is not what it was.
    virtual void OnChange(size_t link) = 0;
    // An answer begins, its rows come, it ends: see AnswerReader::Sink. Anything but OK means that
    // the stream cannot be trusted any more: it is dropped.
    virtual absl::Status OnAnswer(size_t link, const StreamResponse& header) = 0;
    virtual absl::Status OnRows(size_t link, std::span<const uint8_t> bytes) = 0;
    virtual absl::Status OnAnswerEnd(size_t link) = 0;
    // The stream is gone; nothing sent on it will be answered.
    virtual void OnDown(size_t link, const absl::Status& why) = 0;
  };

  // What the links of one thread share; all of it outlives them.
  struct Shared {
    EventLoop* loop;
    std::span<uint8_t> scratch;  // read into by each in turn
    CredentialSource* credentials;
    WireBytes* wire = nullptr;  // counts of all; null: nobody counts
  };

  // Borrows `listener`, which knows this link by its number. `urgent`: it goes before links that
  // are not, whose messages are taken a piece at a time. `wanted` as for ParseDescribe. `refresh`:
  // how often the server is asked to describe itself again; infinite: never. One that tells of
  // changes is asked when it has, and else seldom.
  ServerLink(size_t number, Endpoint endpoint, bool urgent, std::optional<Sha256> wanted,
             absl::Duration refresh, const Shared& shared, Listener* listener);
  ~ServerLink() override;

  // Goes on when it is time to. Call it when next_tick() has come.
  void Tick(absl::Time now);
  absl::Time next_tick() const { return next_tick_; }

  // Room for one message of the stream; it leaves with Flush. Only while connected().
  std::span<uint8_t> AddMessage(size_t bytes) { return connection_->AddMessage(stream_, bytes); }
  // Sends what was added.
  void Flush();

  // Gives up for good. Calls OnDown where the stream was up.
  void Shutdown();

  size_t number() const { return number_; }
  // Its stream is there: requests can be sent, though one that drains refuses them.
  bool connected() const { return state_ == State::kUp; }
  bool usable() const { return connected() && !draining_; }
  // An attempt to connect has come to its end, well or badly.
  bool tried() const { return tried_; }
  // Why it is not usable; OK while it is.
  const absl::Status& status() const { return status_; }
  const std::string& label() const { return endpoint_.label; }

  void OnReady(uint32_t events) override;
  bool urgent() const override { return urgent_; }

 private:
  enum class State { kWaiting, kConnecting, kDescribing, kUp };

  // The stream, as the connection and the reader of its answers see it.
  struct Stream final : Http2Connection::Call, AnswerReader::Sink {
    explicit Stream(ServerLink* its_link) : link(its_link), reader(this) {}
    absl::Status OnBytes(std::span<const uint8_t> bytes) override { return reader.Feed(bytes); }
    void OnEnd(const absl::Status& status) override;
    absl::Status OnAnswer(const StreamResponse& header) override;
    absl::Status OnRows(std::span<const uint8_t> bytes) override {
      return link->listener_->OnRows(link->number_, bytes);
    }
    absl::Status OnAnswerEnd() override { return link->listener_->OnAnswerEnd(link->number_); }

    ServerLink* const link;
    AnswerReader reader;
  };

  absl::Status Begin();
  absl::Status OnConnected();
  void OnDescribed(const absl::StatusOr<std::string>& response);
  absl::Status StartStream();
  absl::Status KeepAlive(absl::Time now);
  absl::Status DescribeAgain();
  void OnChanged();
  absl::Time SoonAfter(absl::Time now);
  absl::Status FlushConnection();

  // Gives the connection up, and tries again later.
  void Fail(const absl::Status& why);
  void Disconnect();

  const size_t number_;
  const Endpoint endpoint_;
  const bool urgent_;
  const std::optional<Sha256> wanted_;
  const absl::Duration refresh_;
  const Shared shared_;
  Listener* const listener_;

  State state_ = State::kWaiting;
  bool draining_ = false;
  bool tried_ = false;
  bool shutdown_ = false;
  absl::Status status_;
  // What is to end the connection, said while it was at work.
  absl::Status ended_;
  absl::Time next_tick_ = absl::InfinitePast();
  absl::Duration backoff_;
  absl::Time deadline_;   // of connecting and describing
  absl::Time last_read_;  // something came from the server
  bool pinged_ = false;   // since then
  absl::Time ping_deadline_;
  bool tells_of_changes_ = false;
  absl::Time next_describe_ = absl::InfiniteFuture();  // while one is under way, too
  bool changed_ = false;                               // since the one under way was asked for
  std::minstd_rand random_{std::random_device()()};

  Socket socket_;  // while it connects
  std::unique_ptr<Http2Connection> connection_;
  std::unique_ptr<UnaryCall> describe_;
  int32_t stream_ = 0;
  Stream stream_call_;
  bool watching_output_ = false;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SERVER_LINK_H_

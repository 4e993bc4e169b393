// gRPC calls over one HTTP/2 connection, as its client. DESIGN: client/README.md, "Why not gRPC".
#ifndef ENGRAM_CLIENT_HTTP2_CONNECTION_H_
#define ENGRAM_CLIENT_HTTP2_CONNECTION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/socket.h"
#include "client/stats.h"
#include "nghttp2/nghttp2.h"

namespace engram {

// Not thread-safe. A failure is the connection's end: nothing may be called after it.
class Http2Connection {
 public:
  // What becomes of a call. Called within OnReadable, where other calls' methods may be called, but
  // the connection must not be destroyed.
  class Call {
   public:
    virtual ~Call() = default;
    // The next bytes of the response's messages, with their framing, cut anywhere; valid during the
    // call. Anything but OK fails the connection.
    virtual absl::Status OnBytes(std::span<const uint8_t> bytes) = 0;
    // The call's end: the server's status, or why there is none. Last.
    virtual void OnEnd(const absl::Status& status) = 0;
  };

  // How a connection shows itself: the server's name, as the caller knows it, and the header
  // `authorization` of each call (empty: none).
  struct Names {
    std::string authority;
    std::string authorization;
  };

  // `wire` counts bytes; may be null.
  Http2Connection(Socket socket, Names names, WireBytes* wire = nullptr);
  ~Http2Connection();
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  // Starts a call of "/package.Service/Method" and returns its number. `timeout` is told to the
  // server; infinite: none. Borrows `call` until OnEnd. Internal: no call can be started any more.
  absl::StatusOr<int32_t> StartCall(absl::string_view path, absl::Duration timeout, Call* call);

  // Room for one more message of `bytes`, behind what the call has been given before; to be filled
  // before anything else is called. It leaves with the next Flush. The call must not have ended.
  std::span<uint8_t> AddMessage(int32_t call, size_t bytes);
  // The call has no more messages.
  void EndMessages(int32_t call);
  // Asks the other side to say that it is there.
  void Ping();

  // Reads once, by way of `scratch`, and hands on what came. Unavailable: the connection is lost.
  // Internal: what came is not HTTP/2, or not gRPC; else what Call::OnBytes returned.
  absl::Status OnReadable(std::span<uint8_t> scratch);
  // Sends what there is, as far as the socket takes it. Codes as OnReadable.
  absl::Status Flush();
  // There is something to do as soon as the socket is writable: Flush, for it did not take all, or
  // OnReadable, for it has more than it shows.
  bool awaits_writable() const {
    return (unsent() && !socket_.waits_for_input()) || socket_.pending();
  }
  // OnReadable has something to do, whether or not the socket is readable.
  bool pending() const { return socket_.pending(); }

  int fd() const { return socket_.fd(); }

 private:
  // A call under way.
  struct CallState {
    Call* call = nullptr;
    std::vector<uint8_t> messages;  // bytes [taken, size) have not gone to HTTP/2 yet
    size_t taken = 0;
    bool deferred = false;  // HTTP/2 waits to be told of messages
    bool no_more = false;
    int http_status = 0;
    int grpc_status = -1;
    std::string grpc_message;
  };

  bool unsent() const { return out_sent_ < out_.size(); }
  static nghttp2_session* NewSession(Http2Connection* self);
  CallState* Find(int32_t id);
  // What nghttp2 calls; each is of one call.
  int OnHeader(int32_t id, absl::string_view name, absl::string_view value);
  int OnData(int32_t id, std::span<const uint8_t> bytes);
  int OnStreamClose(int32_t id, uint32_t error);
  ssize_t TakeMessages(int32_t id, std::span<uint8_t> into, uint32_t* flags);
  void Resume(int32_t id, CallState& state);

  Socket socket_;
  const Names names_;
  WireBytes* const wire_;
  nghttp2_session* const session_;  // owned
  // A handful: by their ids, which are never used again.
  std::map<int32_t, CallState> calls_;
  absl::Status failure_;      // of a Call's
  bool heard_ = false;        // something has come
  std::vector<uint8_t> out_;  // frames; bytes [out_sent_, size) wait for the socket
  size_t out_sent_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_HTTP2_CONNECTION_H_

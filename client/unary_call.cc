#include "client/unary_call.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/event_loop.h"
#include "proto/base/status_macros.h"
#include "proto/grpc_framing.h"

namespace engram {
namespace {

constexpr size_t kReadBytes = 64 << 10;

// One of CallServers' calls, from its address to its response.
class Asking final : public EventLoop::Handler {
 public:
  Asking(const ServerCall& call, CredentialSource& credentials, EventLoop* loop)
      : request_(call),
        credentials_(credentials),
        loop_(loop),
        call_(call.max_response_bytes,
              [this](absl::StatusOr<std::string> response) { result_ = std::move(response); }) {}
  ~Asking() override { Disconnect(); }

  void Start(absl::Time deadline) {
    deadline_ = deadline;
    absl::StatusOr<std::vector<SocketAddress>> found =
        ResolveAddress(request_.address, /*numeric_only=*/false);
    if (!found.ok()) return Finish(found.status());
    addresses_ = *std::move(found);
    TryNext(absl::UnavailableError("no address"));
  }

  void OnReady(uint32_t) override {
    const absl::Status status = Step();
    if (status.ok() || result_.has_value()) return;
    Disconnect();
    if (connected_) return Finish(status);
    TryNext(status);
  }
  bool urgent() const override { return true; }

  bool done() const { return result_.has_value(); }
  void Finish(absl::StatusOr<std::string> result) {
    if (!done()) result_ = std::move(result);
  }
  absl::StatusOr<std::string> result() {
    if (result_->ok()) return *std::move(result_);
    const absl::Status& status = result_->status();
    return absl::Status(status.code(), absl::StrCat(request_.address, ": ", status.message()));
  }

 private:
  // Connects to the first of the addresses left that allows it.
  void TryNext(absl::Status why) {
    while (next_ < addresses_.size()) {
      absl::StatusOr<Socket> socket = Socket::StartConnect(addresses_[next_++]);
      why = socket.status();
      if (!why.ok()) continue;
      socket_ = *std::move(socket);
      why = loop_->Add(socket_.fd(), EPOLLOUT, this);
      if (why.ok()) return;
    }
    Finish(why);
  }

  absl::Status Step() {
    if (!connection_.has_value()) {
      RETURN_IF_ERROR(socket_.FinishConnect());
      connected_ = true;
      ASSIGN_OR_RETURN(TlsSession session, credentials_.NewSession(request_.address));
      ASSIGN_OR_RETURN(std::string authorization, credentials_.Authorization());
      socket_.Secure(std::move(session));
      connection_.emplace(std::move(socket_),
                          Http2Connection::Names{request_.address, std::move(authorization)});
      RETURN_IF_ERROR(
          call_.Start(*connection_, request_.path, request_.request, deadline_ - absl::Now()));
    } else {
      RETURN_IF_ERROR(connection_->OnReadable(scratch_));
    }
    RETURN_IF_ERROR(connection_->Flush());
    loop_->Change(connection_->fd(), connection_->awaits_writable() ? EPOLLIN | EPOLLOUT : EPOLLIN,
                  this);
    return absl::OkStatus();
  }

  void Disconnect() {
    const int fd = connection_.has_value() ? connection_->fd() : socket_.fd();
    if (fd >= 0) loop_->Remove(fd);
    connection_.reset();
    socket_ = Socket();
  }

  const ServerCall& request_;
  CredentialSource& credentials_;
  EventLoop* const loop_;
  absl::Time deadline_;
  std::vector<SocketAddress> addresses_;
  size_t next_ = 0;
  bool connected_ = false;
  Socket socket_;
  std::optional<Http2Connection> connection_;
  UnaryCall call_;
  std::optional<absl::StatusOr<std::string>> result_;
  std::vector<uint8_t> scratch_ = std::vector<uint8_t>(kReadBytes);
};

}  // namespace

absl::Status UnaryCall::Start(Http2Connection& connection, absl::string_view path,
                              absl::string_view request, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const int32_t id, connection.StartCall(path, timeout, this));
  const std::span<uint8_t> message = connection.AddMessage(id, request.size());
  if (!request.empty()) std::memcpy(message.data(), request.data(), request.size());
  connection.EndMessages(id);
  return absl::OkStatus();
}

absl::Status UnaryCall::OnBytes(std::span<const uint8_t> bytes) {
  if (received_.size() + bytes.size() > kGrpcPrefixBytes + max_bytes_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a response of more than ", max_bytes_, " bytes"));
  }
  received_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return absl::OkStatus();
}

void UnaryCall::OnEnd(const absl::Status& status) {
  if (!status.ok()) return done_(status);
  if (received_.size() < kGrpcPrefixBytes) {
    return done_(absl::InvalidArgumentError("no response in a call that succeeded"));
  }
  const absl::StatusOr<uint32_t> bytes =
      ReadGrpcPrefix(reinterpret_cast<const uint8_t*>(received_.data()));
  if (!bytes.ok()) return done_(bytes.status());
  if (received_.size() != kGrpcPrefixBytes + *bytes) {
    return done_(absl::InvalidArgumentError("a response that is cut off, or more than one"));
  }
  done_(received_.substr(kGrpcPrefixBytes));
}

std::vector<absl::StatusOr<std::string>> CallServers(const std::vector<ServerCall>& calls,
                                                     CredentialSource& credentials,
                                                     absl::Duration timeout) {
  std::vector<absl::StatusOr<std::string>> results;
  absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create();
  if (!loop.ok()) {
    results.assign(calls.size(), loop.status());
    return results;
  }
  const absl::Time deadline = absl::Now() + timeout;
  std::vector<std::unique_ptr<Asking>> asking;
  for (const ServerCall& call : calls) {
    asking.push_back(std::make_unique<Asking>(call, credentials, loop->get()));
    asking.back()->Start(deadline);
  }
  const auto done = [](const std::unique_ptr<Asking>& each) { return each->done(); };
  while (!std::all_of(asking.begin(), asking.end(), done) && absl::Now() < deadline) {
    (*loop)->Poll(deadline - absl::Now());
  }
  for (const std::unique_ptr<Asking>& each : asking) {
    each->Finish(absl::DeadlineExceededError(
        absl::StrCat("no answer within ", absl::FormatDuration(timeout))));
    results.push_back(each->result());
  }
  return results;
}

std::vector<absl::StatusOr<std::string>> CallServers(const std::vector<ServerCall>& calls,
                                                     const Credentials& credentials,
                                                     absl::Duration timeout) {
  const auto source = CredentialSource::Create(credentials);
  if (source.ok()) return CallServers(calls, **source, timeout);
  return std::vector<absl::StatusOr<std::string>>(calls.size(), source.status());
}

}  // namespace engram

#include "client/server_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Of connecting and describing together.
constexpr absl::Duration kConnectTimeout = absl::Seconds(3);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
constexpr absl::Duration kLastBackoff = absl::Seconds(2);
// A host that is lost without a word is noticed within half a minute.
constexpr absl::Duration kQuietBeforePing = absl::Seconds(30);
constexpr absl::Duration kPingTimeout = absl::Seconds(5);
// A server that tells of changes is asked what they are within this time, by each client at another
// moment; and so often where it told nothing.
constexpr absl::Duration kAskAfterChange = absl::Milliseconds(100);
constexpr absl::Duration kAskWithoutChange = absl::Seconds(30);

// What the server calls itself in HTTP/2; a path would be no name.
std::string Authority(const std::string& address) {
  return absl::StartsWith(address, "unix:") ? "localhost" : address;
}

}  // namespace

ServerLink::ServerLink(size_t number, Endpoint endpoint, bool urgent, std::optional<Sha256> wanted,
                       absl::Duration refresh, const Shared& shared, Listener* listener)
    : number_(number),
      endpoint_(std::move(endpoint)),
      urgent_(urgent),
      wanted_(wanted),
      refresh_(refresh),
      shared_(shared),
      listener_(listener),
      status_(absl::UnavailableError(absl::StrCat(label(), ": not connected yet"))),
      backoff_(kFirstBackoff),
      stream_call_(this) {}

ServerLink::~ServerLink() { Disconnect(); }

// ---------------------------------------------------------------- connecting

void ServerLink::Tick(absl::Time now) {
  if (shutdown_) return;
  if (now < next_tick_) return;
  absl::Status status;
  switch (state_) {
    case State::kWaiting:
      status = Begin();
      break;
    case State::kUp:
      status = KeepAlive(now);
      break;
    case State::kConnecting:
    case State::kDescribing:
      status = absl::DeadlineExceededError("no answer within 3 seconds");
  }
  if (!status.ok()) Fail(status);
}

absl::Status ServerLink::Begin() {
  state_ = State::kConnecting;
  deadline_ = absl::Now() + kConnectTimeout;
  next_tick_ = deadline_;
  ASSIGN_OR_RETURN(socket_, Socket::StartConnect(endpoint_.address));
  return shared_.loop->Add(socket_.fd(), EPOLLOUT, this);
}

absl::Status ServerLink::OnConnected() {
  ASSIGN_OR_RETURN(TlsSession session, shared_.credentials->NewSession(endpoint_.name));
  ASSIGN_OR_RETURN(std::string authorization, shared_.credentials->Authorization());
  socket_.Secure(std::move(session));
  connection_ = std::make_unique<Http2Connection>(
      std::move(socket_),
      Http2Connection::Names{Authority(endpoint_.name), std::move(authorization)}, shared_.wire);
  shared_.loop->Change(connection_->fd(), EPOLLIN, this);
  watching_output_ = false;
  state_ = State::kDescribing;
  describe_ = std::make_unique<UnaryCall>(
      kMaxDescribeBytes,
      [this](const absl::StatusOr<std::string>& response) { OnDescribed(response); });
  return describe_->Start(*connection_, kDescribePath, "", deadline_ - absl::Now());
}

// Runs while the connection is at work: what goes wrong ends it afterwards.
void ServerLink::OnDescribed(const absl::StatusOr<std::string>& response) {
  ended_ = [&]() -> absl::Status {
    RETURN_IF_ERROR(response.status());
    ASSIGN_OR_RETURN(ServerInfo info, ParseDescribe(*response, wanted_));
    if (info.state != DescribedState::kServing) {
      return absl::UnavailableError(
          absl::StrCat("is not serving (", DescribedStateName(info.state), ")"));
    }
    tells_of_changes_ = info.tells_of_changes;
    RETURN_IF_ERROR(listener_->Accept(number_, std::move(info)));
    return StartStream();
  }();
}

absl::Status ServerLink::StartStream() {
  stream_call_.reader.Reset();
  ASSIGN_OR_RETURN(
      stream_, connection_->StartCall(kGatherStreamPath, absl::InfiniteDuration(), &stream_call_));
  state_ = State::kUp;
  draining_ = false;
  tried_ = true;
  status_ = absl::OkStatus();
  backoff_ = kFirstBackoff;
  last_read_ = absl::Now();
  pinged_ = false;
  // What changed before there was a stream was not told.
  next_describe_ = tells_of_changes_ ? SoonAfter(last_read_) : last_read_ + refresh_;
  changed_ = false;
  next_tick_ = std::min(next_describe_, last_read_ + kQuietBeforePing);
  listener_->OnChange(number_);
  return absl::OkStatus();
}

absl::Status ServerLink::KeepAlive(absl::Time now) {
  if (now >= next_describe_) RETURN_IF_ERROR(DescribeAgain());
  const absl::Time quiet_until = last_read_ + kQuietBeforePing;
  if (pinged_ && now >= ping_deadline_) {
    return absl::UnavailableError("the server does not answer any more");
  }
  if (!pinged_ && now >= quiet_until) {
    pinged_ = true;
    connection_->Ping();
    ping_deadline_ = now + kPingTimeout;
  }
  next_tick_ = std::min(next_describe_, pinged_ ? ping_deadline_ : quiet_until);
  return FlushConnection();
}

absl::Time ServerLink::SoonAfter(absl::Time now) {
  if (refresh_ == absl::InfiniteDuration()) return absl::InfiniteFuture();
  const absl::Duration longest = std::min(kAskAfterChange, refresh_);
  return now + std::uniform_real_distribution<double>()(random_) * longest;
}

void ServerLink::OnChanged() {
  changed_ = true;
  if (next_describe_ == absl::InfiniteFuture()) return;  // nobody asks, or it is under way
  next_describe_ = std::min(next_describe_, SoonAfter(absl::Now()));
  next_tick_ = std::min(next_tick_, next_describe_);
}

absl::Status ServerLink::DescribeAgain() {
  changed_ = false;
  next_describe_ = absl::InfiniteFuture();
  describe_ = std::make_unique<UnaryCall>(
      kMaxDescribeBytes, [this](const absl::StatusOr<std::string>& response) {
        const absl::Time now = absl::Now();
        const bool told = tells_of_changes_ && response.ok();
        next_describe_ = changed_ ? SoonAfter(now)
                         : told   ? now + std::max(refresh_, kAskWithoutChange)
                                  : now + refresh_;
        next_tick_ = std::min(next_tick_, next_describe_);
        if (!response.ok()) return;  // What is wrong with the connection shows elsewhere.
        absl::StatusOr<ServerInfo> info = ParseDescribe(*response, std::nullopt);
        if (info.ok()) listener_->OnDescribed(number_, *std::move(info));
      });
  return describe_->Start(*connection_, kDescribePath, "", kConnectTimeout);
}

// ---------------------------------------------------------------- the stream

absl::Status ServerLink::Stream::OnAnswer(const StreamResponse& header) {
  if (header.kind == ResponseKind::kDraining) {
    link->draining_ = true;
    link->status_ = absl::UnavailableError(absl::StrCat("server ", link->label(), " is draining"));
    link->listener_->OnChange(link->number_);
  }
  if (header.kind == ResponseKind::kChanged) link->OnChanged();
  return link->listener_->OnAnswer(link->number_, header);
}

void ServerLink::Stream::OnEnd(const absl::Status& status) {
  link->ended_ = status.ok() ? absl::UnavailableError("the server ended the stream") : status;
}

void ServerLink::OnReady(uint32_t events) {
  absl::Status status;
  if (state_ == State::kConnecting) {
    status = socket_.FinishConnect();
    if (status.ok()) status = OnConnected();
  } else {
    if ((events & ~uint32_t{EPOLLOUT}) != 0 || connection_->pending()) {
      last_read_ = absl::Now();
      pinged_ = false;
      status = connection_->OnReadable(shared_.scratch);
    }
    status.Update(ended_);
  }
  if (status.ok()) status = FlushConnection();
  if (!status.ok()) Fail(status);
}

absl::Status ServerLink::FlushConnection() {
  RETURN_IF_ERROR(connection_->Flush());
  if (connection_->awaits_writable() != watching_output_) {
    watching_output_ = connection_->awaits_writable();
    shared_.loop->Change(connection_->fd(), watching_output_ ? EPOLLIN | EPOLLOUT : EPOLLIN, this);
  }
  return absl::OkStatus();
}

void ServerLink::Flush() {
  if (state_ != State::kUp) return;
  if (const absl::Status status = FlushConnection(); !status.ok()) Fail(status);
}

// ---------------------------------------------------------------- the end

void ServerLink::Fail(const absl::Status& why) {
  const bool was_up = state_ == State::kUp;
  Disconnect();
  // A stream that was lost is for the caller to try elsewhere, whatever broke it; what came that
  // was not to be understood is not.
  status_ = absl::Status(was_up && why.code() != absl::StatusCode::kInternal &&
                                 why.code() != absl::StatusCode::kInvalidArgument
                             ? absl::StatusCode::kUnavailable
                             : why.code(),
                         absl::StrCat(was_up ? "server " : "", label(), was_up ? " was lost" : "",
                                      ": ", why.message()));
  state_ = State::kWaiting;
  tried_ = true;
  next_tick_ = absl::Now() + backoff_;
  backoff_ = std::min(2 * backoff_, kLastBackoff);
  if (was_up) listener_->OnDown(number_, status_);
  listener_->OnChange(number_);
}

void ServerLink::Disconnect() {
  const int fd = connection_ != nullptr ? connection_->fd() : socket_.fd();
  if (fd >= 0) shared_.loop->Remove(fd);
  connection_.reset();
  describe_.reset();
  socket_ = Socket();
  ended_ = absl::OkStatus();
}

void ServerLink::Shutdown() {
  shutdown_ = true;
  if (state_ != State::kWaiting) Fail(absl::CancelledError("the client is closing"));
  next_tick_ = absl::InfiniteFuture();
}

}  // namespace engram

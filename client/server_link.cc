#include "client/server_link.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/grpc_status.h"

namespace engram {
namespace {
constexpr absl::Duration kDescribeTimeout = absl::Seconds(3);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
constexpr absl::Duration kLastBackoff = absl::Seconds(2);
constexpr char kMethod[] = "/engram.v1.EngramService/GatherStream";
}  // namespace

ServerLink::ServerLink(size_t server, std::string address, std::optional<Sha256> wanted,
                       grpc::CompletionQueue* queue, Listener* listener)
    : server_(server),
      address_(std::move(address)),
      wanted_(wanted),
      queue_(queue),
      listener_(listener),
      channel_(MakeChannel(address_)),
      stub_(v1::EngramService::NewStub(channel_)),
      generic_stub_(channel_),
      status_(absl::UnavailableError(absl::StrCat(address_, ": not connected yet"))),
      backoff_(kFirstBackoff),
      described_([this](bool ok) { OnDescribed(ok); }),
      started_([this](bool ok) { OnStarted(ok); }),
      read_([this](bool ok) { OnRead(ok); }),
      written_([this](bool ok) { OnWritten(ok); }),
      finished_([this](bool ok) { OnFinished(ok); }) {}

void ServerLink::Tick(absl::Time now) {
  if (state_ == State::kWaiting && !shutdown_ && now >= next_tick_) Describe();
}

void ServerLink::Describe() {
  state_ = State::kDescribing;
  next_tick_ = absl::InfiniteFuture();
  context_ = std::make_unique<grpc::ClientContext>();
  context_->set_deadline(absl::ToChronoTime(absl::Now() + kDescribeTimeout));
  description_.Clear();
  describe_ = stub_->AsyncDescribe(context_.get(), v1::DescribeRequest(), queue_);
  describe_->Finish(&description_, &finish_status_, &described_);
}

void ServerLink::OnDescribed(bool) {
  if (!finish_status_.ok()) return Fail(FromGrpcStatus(finish_status_, address_));
  absl::StatusOr<ServerInfo> info = ParseDescribe(description_, wanted_);
  absl::Status accepted = info.status();
  if (accepted.ok() && info->state != v1::SERVER_STATE_SERVING) {
    accepted = absl::UnavailableError(
        absl::StrCat("is not serving (", v1::ServerState_Name(info->state), ")"));
  }
  if (accepted.ok()) accepted = listener_->Accept(server_, *std::move(info));
  if (!accepted.ok()) {
    return Fail(absl::Status(accepted.code(), absl::StrCat(address_, ": ", accepted.message())));
  }
  if (shutdown_) return Fail(absl::CancelledError("the client is closing"));
  state_ = State::kStarting;
  context_ = std::make_unique<grpc::ClientContext>();
  stream_ = generic_stub_.PrepareCall(context_.get(), kMethod, queue_);
  stream_->StartCall(&started_);
}

void ServerLink::OnStarted(bool ok) {
  if (!ok || shutdown_) {
    return Close(absl::UnavailableError(absl::StrCat(address_, ": cannot open a stream")));
  }
  state_ = State::kUp;
  draining_ = false;
  tried_ = true;
  status_ = absl::OkStatus();
  backoff_ = kFirstBackoff;
  reading_ = true;
  stream_->Read(&incoming_, &read_);
  listener_->OnUp(server_);
}

void ServerLink::OnRead(bool ok) {
  reading_ = false;
  if (state_ == State::kClosing) return FinishIfQuiet();
  if (!ok) return Close(absl::UnavailableError(absl::StrCat("server ", address_, " was lost")));
  absl::Status status;
  {
    grpc::ProtoBufferReader reader(&incoming_);
    status = reader.status().ok() ? DecodeStreamResponse(&reader, response_)
                                  : absl::InternalError("unreadable message");
  }
  if (status.ok() && response_.kind == ResponseKind::kDraining) {
    draining_ = true;
    status_ = absl::UnavailableError(absl::StrCat("server ", address_, " is draining"));
  } else if (status.ok()) {
    status = listener_->OnResponse(server_, response_, incoming_);
  }
  incoming_.Clear();
  if (!status.ok()) {
    return Close(absl::InternalError(
        absl::StrCat("server ", address_, " broke the protocol: ", status.message())));
  }
  reading_ = true;
  stream_->Read(&incoming_, &read_);
}

void ServerLink::Send(const grpc::ByteBuffer& message) {
  outgoing_.push_back(message);
  if (!writing_) WriteNext();
}

void ServerLink::WriteNext() {
  writing_ = true;
  stream_->Write(outgoing_.front(), &written_);
  outgoing_.pop_front();
}

void ServerLink::OnWritten(bool ok) {
  writing_ = false;
  if (state_ == State::kClosing) return FinishIfQuiet();
  if (!ok) return Close(absl::UnavailableError(absl::StrCat("server ", address_, " was lost")));
  if (!outgoing_.empty()) WriteNext();
}

void ServerLink::Close(absl::Status why) {
  if (state_ == State::kClosing) return;
  state_ = State::kClosing;
  status_ = std::move(why);
  context_->TryCancel();
  FinishIfQuiet();
}

void ServerLink::FinishIfQuiet() {
  if (reading_ || writing_ || finishing_) return;
  finishing_ = true;
  stream_->Finish(&finish_status_, &finished_);
}

void ServerLink::OnFinished(bool) {
  finishing_ = false;
  // What the server or the transport says is the better reason, but not our own cancel.
  if (!finish_status_.ok() && finish_status_.error_code() != grpc::StatusCode::CANCELLED) {
    status_ = absl::Status(
        status_.code(), absl::StrCat(status_.message(), " (", finish_status_.error_message(), ")"));
  }
  stream_.reset();
  outgoing_.clear();
  listener_->OnDown(server_, status_);
  Retry();
}

void ServerLink::Fail(absl::Status why) {
  status_ = std::move(why);
  Retry();
}

void ServerLink::Retry() {
  tried_ = true;
  state_ = State::kWaiting;
  next_tick_ = absl::Now() + backoff_;
  backoff_ = std::min(2 * backoff_, kLastBackoff);
}

void ServerLink::Shutdown() {
  shutdown_ = true;
  if (state_ == State::kDescribing) context_->TryCancel();
  if (state_ == State::kStarting) context_->TryCancel();
  if (state_ == State::kUp) Close(absl::CancelledError("the client is closing"));
}

}  // namespace engram

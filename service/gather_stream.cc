#include "service/gather_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/retry_after.h"
#include "proto/base/status_macros.h"
#include "proto/grpc_status.h"
#include "service/admission.h"

namespace engram {
namespace {

constexpr uint64_t kMaxBudgetUs = uint64_t{1} << 50;  // decades: no deadline at all

}  // namespace

void GatherStream::Listen(CallContext& context) { new GatherStream(context); }

GatherStream::GatherStream(CallContext& context)
    : context_(context),
      count_(context),
      backlog_(context.backlog),
      stream_(&server_context_),
      started_([this](bool ok) { OnStarted(ok); }),
      read_([this](bool ok) { OnRead(ok); }),
      written_([this](bool ok) { OnWritten(ok); }),
      finished_([this](bool ok) { OnFinished(ok); }),
      answers_turn_([this] { WriteNext(); }),
      prefill_turn_([this] { WritePrefill(); }) {
  context_.engram.RequestGatherStream(&server_context_, &stream_, context_.queue.get(),
                                      context_.queue.get(), started_.Tag());
}

GatherStream::~GatherStream() {
  context_.long_calls.erase(this);
  context_.answers.Remove(answers_turn_);
  context_.prefill.Remove(prefill_turn_);
  while (pending() != 0) {  // The connection was lost first.
    PendingQueue& queue = decode_.empty() ? prefill_ : decode_;
    context_.counters->Error(ErrorReason::kCancelled);
    Retire(queue, queue.begin());
  }
  if (started_ok_) context_.counters->streams.Subtract(1);
}

void GatherStream::OnStarted(bool ok) {
  if (!ok) {  // The server shuts down: no call came.
    delete this;
    return;
  }
  if (context_.phase < Phase::kEnding) Listen(context_);
  started_ok_ = true;
  context_.counters->streams.Add(1);
  context_.long_calls.insert(this);
  denied_ = Open();
  if (!denied_.ok()) {
    CountError(denied_, "");
    context_.LogError("a stream", server_context_.peer(), denied_);
    return End();
  }
  if (context_.phase != Phase::kServing) BeginDrain();
  if (context_.phase >= Phase::kEnding) End();
  Read();
}

absl::Status GatherStream::Open() {
  RETURN_IF_ERROR(context_.security.Authorize(server_context_, Right::kLookUp));
  ASSIGN_OR_RETURN(share_, context_.limits.Open(context_.security.CallerOf(server_context_)));
  return absl::OkStatus();
}

void GatherStream::Read() {
  if (reading_ || read_closed_ || broken_ || finishing_) return;
  if (short_messages_.size() > context_.options.max_requests_in_flight) return;
  reading_ = true;
  stream_.Read(&incoming_, read_.Tag());
}

void GatherStream::OnRead(bool ok) {
  reading_ = false;
  if (finished_done_) {
    delete this;
    return;
  }
  if (!ok) {
    read_closed_ = true;
    return EndIfQuiet();
  }
  Receive();
  incoming_.Clear();
  Read();
  decode_.size() < kDecodeBurst ? AwaitTurn() : WriteNext();
}

// One message in: a request that waits from now on, or an answer that says why not.
void GatherStream::Receive() {
  if (spare_.empty()) spare_.push_back(std::make_unique<Pending>());
  StreamRequest& request = spare_.back()->request;
  absl::Status status = Decode(request);
  if (status.ok() && request.kind == RequestKind::kCancel) return CancelRequest(request.request_id);
  ServerCounters& counters = *context_.counters;
  counters.Request(request.priority);
  // An id that is under way keeps its one last answer for itself.
  if (ids_.contains(request.request_id)) {
    return AnswerError(0,
                       absl::InvalidArgumentError(absl::StrCat("request id ", request.request_id,
                                                               " is still being answered")),
                       request.digest);
  }
  Pending& admitted = *spare_.back();
  admitted.received_ns = absl::GetCurrentTimeNanos();
  admitted.deadline_ns =
      request.budget_us == 0 || request.budget_us > kMaxBudgetUs
          ? INT64_MAX
          : admitted.received_ns + static_cast<int64_t>(request.budget_us) * 1000;
  if (status.ok()) status = Admit(admitted);
  if (!status.ok()) {
    admitted.generation.reset();
    return AnswerError(request.request_id, status, request.digest);
  }
  std::unique_ptr<Pending> pending = std::move(spare_.back());
  spare_.pop_back();
  pending->gathering_ns = 0;
  pending->next_row = 0;
  pending->next_piece = 0;
  ids_.insert(request.request_id);
  const bool prefill = request.priority == WirePriority::kPrefill;
  if (!prefill) context_.last_decode = absl::FromUnixNanos(pending->received_ns);
  counters.rows.Observe(pending->rows());
  counters.in_flight.Add(1);
  counters.in_flight_rows.Add(pending->rows());
  backlog_.Add(request.priority, BytesOf(pending->rows()));
  (prefill ? prefill_ : decode_).push_back(std::move(pending));
}

absl::Status GatherStream::Decode(StreamRequest& request) {
  const GrpcMemoryReads reads;
  grpc::ProtoBufferReader reader(&incoming_);
  if (!reader.status().ok()) return absl::InvalidArgumentError("unreadable message");
  return DecodeStreamRequest(&reader, context_.options.max_rows_per_request, request);
}

absl::Status GatherStream::Admit(Pending& admitted) {
  const StreamRequest& request = admitted.request;
  if (request.kind != RequestKind::kGather) {
    return absl::UnimplementedError(
        absl::StrCat("request kind ", static_cast<uint32_t>(request.kind), " is not known here"));
  }
  if (request.request_id == 0) return absl::InvalidArgumentError("request id 0 is not allowed");
  if (context_.phase != Phase::kServing) {
    NoticeDrain();
    return absl::UnavailableError("the server is draining; nothing was started");
  }
  if (pending() >= context_.options.max_requests_in_flight) {
    return Refused(absl::ResourceExhaustedError(
        absl::StrCat("more than ", context_.options.max_requests_in_flight,
                     " requests are in flight on this stream")));
  }
  ASSIGN_OR_RETURN(admitted.generation,
                   AdmitGather(context_.table, context_.Held(), request.digest, request.layer,
                               request.flags, request.rows, request.wide_rows));
  RETURN_IF_ERROR(CheckTime(admitted));
  if (share_ == nullptr) return absl::OkStatus();
  const absl::Status taken = share_->Take(admitted.rows());
  return taken.ok() ? taken : Refused(taken);
}

absl::Status GatherStream::CheckTime(const Pending& admitted) {
  if (admitted.deadline_ns == INT64_MAX) return absl::OkStatus();
  const int64_t budget_ns = admitted.deadline_ns - admitted.received_ns;
  const int64_t after_ns = backlog_.Refuse(admitted.request.priority, BytesOf(admitted.rows()),
                                           budget_ns, admitted.received_ns);
  if (after_ns == 0) return absl::OkStatus();
  return WithRetryAfter(absl::ResourceExhaustedError(
                            absl::StrCat("too much is asked for: the rows would come later than ",
                                         admitted.request.budget_us, " us")),
                        absl::Nanoseconds(after_ns));
}

absl::Status GatherStream::Refused(absl::Status error) const {
  return WithRetryAfter(std::move(error), absl::Nanoseconds(usual_ns_));
}

uint64_t GatherStream::BytesOf(uint64_t rows) const {
  return rows * context_.table.rows->layout().row_bytes();
}

void GatherStream::CancelRequest(uint64_t request_id) {
  for (auto* queue : {&decode_, &prefill_}) {
    const auto it = std::find_if(queue->begin(), queue->end(), [&](const auto& pending) {
      return pending->request.request_id == request_id;
    });
    if (it == queue->end()) continue;
    context_.lateness.OnCancel((*it)->received_ns, (*it)->deadline_ns, absl::GetCurrentTimeNanos());
    Retire(*queue, it);
    return AnswerError(request_id, absl::CancelledError("cancelled by the client"), "");
  }
  // Answered already: the cancel came too late, which is no error.
}

void GatherStream::CountError(const absl::Status& status, absl::string_view digest) {
  context_.counters->Error(
      ReasonOf(status, Holds(context_.Held(), digest), context_.phase == Phase::kServing));
}

void GatherStream::LogError(uint64_t request_id, const absl::Status& status) {
  if (absl::IsCancelled(status)) return;
  context_.LogError(absl::StrCat("request ", request_id), server_context_.peer(), status);
}

void GatherStream::AnswerError(uint64_t request_id, const absl::Status& status,
                               absl::string_view digest) {
  CountError(status, digest);
  LogError(request_id, status);
  short_messages_.push_back(EncodeErrorAnswer(request_id, status));
}

void GatherStream::Retire(PendingQueue& queue, PendingQueue::iterator pending) {
  context_.counters->in_flight.Subtract(1);
  const uint64_t rows_left = (*pending)->rows() - (*pending)->next_row;
  context_.counters->in_flight_rows.Subtract(rows_left);
  backlog_.Subtract((*pending)->request.priority, BytesOf(rows_left));
  if (share_ != nullptr) share_->GiveBack((*pending)->rows());
  ids_.erase((*pending)->request.request_id);
  (*pending)->generation.reset();
  if (std::unique_ptr<Piece> piece = std::move((*pending)->piece)) {
    if (!piece->in_the_air) piece->buffer.reset();
    (piece->in_the_air ? unwanted_ : spare_pieces_).push_back(std::move(piece));
  }
  spare_.push_back(std::move(*pending));
  queue.erase(pending);
}

void GatherStream::NoticeDrain() {
  if (noticed_) return;
  noticed_ = true;
  short_messages_.push_back(EncodeNotice(ResponseKind::kDraining));
}

void GatherStream::BeginDrain() {
  NoticeDrain();
  WriteNext();
}

// One notice tells of all changes that it has not left before.
void GatherStream::OnHeldChanged() {
  if (!denied_.ok() || finishing_) return;
  std::string notice = EncodeNotice(ResponseKind::kChanged);
  if (std::find(short_messages_.begin(), short_messages_.end(), notice) != short_messages_.end()) {
    return;
  }
  short_messages_.push_back(std::move(notice));
  WriteNext();
}

void GatherStream::End() {
  ending_ = true;
  EndIfQuiet();
}

// Finishes the call when its work is done: the client has closed its side and everything is
// answered, the server ends and everything is answered, or the connection is gone.
void GatherStream::EndIfQuiet() {
  if (finishing_ || writing_ || pieces_in_the_air_ != 0) return;
  const bool answered = short_messages_.empty() && pending() == 0;
  if (broken_ ? reading_ : !(answered && (read_closed_ || ending_))) return;
  finishing_ = true;
  const absl::Status status = !denied_.ok() ? denied_
                              : ending_     ? absl::UnavailableError("the server is draining")
                                            : absl::OkStatus();
  stream_.Finish(ToGrpcStatus(status), finished_.Tag());
}

void GatherStream::OnFinished(bool) {
  finished_done_ = true;
  // A read may still be under way when the server ended the call; it comes back failed.
  if (!reading_) delete this;
}

}  // namespace engram

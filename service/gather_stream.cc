#include "service/gather_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "service/admission.h"

namespace engram {

void GatherStream::Listen(CallContext& context) { new GatherStream(context); }

GatherStream::GatherStream(CallContext& context)
    : context_(context),
      count_(context),
      stream_(&server_context_),
      started_([this](bool ok) { OnStarted(ok); }),
      read_([this](bool ok) { OnRead(ok); }),
      written_([this](bool ok) { OnWritten(ok); }),
      finished_([this](bool ok) { OnFinished(ok); }) {
  context_.engram.RequestGatherStream(&server_context_, &stream_, context_.queue.get(),
                                      context_.queue.get(), &started_);
}

GatherStream::~GatherStream() { context_.long_calls.erase(this); }

void GatherStream::OnStarted(bool ok) {
  if (!ok) {  // The server shuts down: no call came.
    delete this;
    return;
  }
  if (context_.phase < Phase::kEnding) Listen(context_);
  context_.long_calls.insert(this);
  if (context_.phase != Phase::kServing) BeginDrain();
  if (context_.phase >= Phase::kEnding) End();
  Read();
}

void GatherStream::Read() {
  if (reading_ || read_closed_ || broken_ || finishing_) return;
  if (short_messages_.size() > context_.options.max_requests_in_flight) return;
  reading_ = true;
  stream_.Read(&incoming_, &read_);
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
  WriteNext();
}

// One message in: a request that waits from now on, or an answer that says why not.
void GatherStream::Receive() {
  grpc::ProtoBufferReader reader(&incoming_);
  absl::Status status =
      reader.status().ok()
          ? DecodeStreamRequest(&reader, context_.options.max_rows_per_request, request_)
          : absl::InvalidArgumentError("unreadable message");
  if (status.ok() && request_.kind == RequestKind::kCancel) {
    return CancelRequest(request_.request_id);
  }
  // An id that is under way keeps its one last answer for itself.
  const bool reused = ids_.count(request_.request_id) != 0;
  if (reused) {
    return AnswerError(0, absl::InvalidArgumentError(absl::StrCat(
                              "request id ", request_.request_id, " is still being answered")));
  }
  if (status.ok()) status = Admit();
  if (!status.ok()) return AnswerError(request_.request_id, status);
  Pending pending;
  pending.deadline = request_.budget_us == 0
                         ? absl::InfiniteFuture()
                         : absl::Now() + absl::Microseconds(static_cast<int64_t>(
                                             std::min<uint64_t>(request_.budget_us, INT64_MAX)));
  ids_.insert(request_.request_id);
  auto& queue = request_.priority == WirePriority::kPrefill ? prefill_ : decode_;
  pending.request = std::move(request_);
  queue.push_back(std::move(pending));
}

absl::Status GatherStream::Admit() {
  if (request_.kind != RequestKind::kGather) {
    return absl::UnimplementedError(
        absl::StrCat("request kind ", static_cast<uint32_t>(request_.kind), " is not known here"));
  }
  if (request_.request_id == 0) return absl::InvalidArgumentError("request id 0 is not allowed");
  if (context_.phase != Phase::kServing) {
    NoticeDrain();
    return absl::UnavailableError("the server is draining; nothing was started");
  }
  if (pending() >= context_.options.max_requests_in_flight) {
    return absl::ResourceExhaustedError(absl::StrCat("more than ",
                                                     context_.options.max_requests_in_flight,
                                                     " requests are in flight on this stream"));
  }
  return AdmitGather(context_.table, request_.digest, request_.layer, request_.flags, request_.rows,
                     request_.wide_rows);
}

void GatherStream::CancelRequest(uint64_t request_id) {
  for (auto* queue : {&decode_, &prefill_}) {
    const auto it = std::find_if(queue->begin(), queue->end(), [&](const Pending& pending) {
      return pending.request.request_id == request_id;
    });
    if (it == queue->end()) continue;
    queue->erase(it);
    ids_.erase(request_id);
    return AnswerError(request_id, absl::CancelledError("cancelled by the client"));
  }
  // Answered already: the cancel came too late, which is no error.
}

void GatherStream::AnswerError(uint64_t request_id, const absl::Status& status) {
  short_messages_.push_back(EncodeErrorAnswer(request_id, status));
}

void GatherStream::WriteNext() {
  if (writing_ || broken_ || finishing_) return;
  if (!short_messages_.empty()) {
    const grpc::Slice slice(short_messages_.front());
    short_messages_.pop_front();
    return Write(grpc::ByteBuffer(&slice, 1));
  }
  if (pending() > 0) return WritePiece(decode_.empty() ? prefill_ : decode_);
  EndIfQuiet();
}

// Writes the next piece of the first request of `queue`, or its error. The request goes to the back
// of its queue while it has more pieces, so that equals share the stream.
void GatherStream::WritePiece(std::deque<Pending>& queue) {
  Pending pending = std::move(queue.front());
  queue.pop_front();
  const StreamRequest& request = pending.request;
  const size_t row_bytes = context_.table.rows->layout().row_bytes();
  const size_t count = std::min(pending.rows() - pending.next_row,
                                std::max<size_t>(1, context_.pool->buffer_bytes() / row_bytes));
  const bool checksums = (request.flags & kFlagChecksums) != 0;
  checksums_.resize(checksums ? count : 0);
  AnswerPool::Buffer buffer = context_.pool->Take();
  absl::Status status;
  if (absl::Now() > pending.deadline) {
    status =
        absl::DeadlineExceededError("the request's time was over before its rows were gathered");
  } else {
    const auto gather = [&](auto ids) {
      return context_.table.rows->Gather(request.layer, ids.subspan(pending.next_row, count),
                                         buffer.data(), checksums ? checksums_.data() : nullptr);
    };
    status = request.wide_rows.empty() ? gather(std::span<const uint32_t>(request.rows))
                                       : gather(std::span<const uint64_t>(request.wide_rows));
  }
  if (!status.ok()) {
    ids_.erase(request.request_id);
    const grpc::Slice slice(EncodeErrorAnswer(request.request_id, status));
    return Write(grpc::ByteBuffer(&slice, 1));
  }
  const bool last = pending.next_row + count == pending.rows();
  header_.clear();
  EncodeAnswerHeader(request.request_id, pending.next_piece, last, checksums_, count * row_bytes,
                     header_);
  const grpc::Slice slices[2] = {grpc::Slice(header_),
                                 std::move(buffer).IntoSlice(count * row_bytes)};
  pending.next_row += count;
  ++pending.next_piece;
  if (last) {
    ids_.erase(request.request_id);
  } else {
    queue.push_back(std::move(pending));
  }
  Write(grpc::ByteBuffer(slices, 2));
}

void GatherStream::Write(const grpc::ByteBuffer& message) {
  writing_ = true;
  stream_.Write(message, &written_);
}

void GatherStream::OnWritten(bool ok) {
  writing_ = false;
  if (!ok) broken_ = true;
  if (broken_) return EndIfQuiet();
  Read();
  WriteNext();
}

void GatherStream::NoticeDrain() {
  if (noticed_) return;
  noticed_ = true;
  short_messages_.push_back(EncodeDrainNotice());
}

void GatherStream::BeginDrain() {
  NoticeDrain();
  WriteNext();
}

void GatherStream::End() {
  ending_ = true;
  EndIfQuiet();
}

// Finishes the call when its work is done: the client has closed its side and everything is
// answered, the server ends and everything is answered, or the connection is gone.
void GatherStream::EndIfQuiet() {
  if (finishing_ || writing_) return;
  const bool answered = short_messages_.empty() && pending() == 0;
  if (broken_ ? reading_ : !(answered && (read_closed_ || ending_))) return;
  finishing_ = true;
  stream_.Finish(ending_ ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is draining")
                         : grpc::Status::OK,
                 &finished_);
}

void GatherStream::OnFinished(bool) {
  finished_done_ = true;
  // A read may still be under way when the server ended the call; it comes back failed.
  if (!reading_) delete this;
}

}  // namespace engram

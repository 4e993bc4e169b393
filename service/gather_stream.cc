#include "service/gather_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "service/admission.h"

namespace engram {

size_t AnswerBufferBytes(size_t row_bytes) {
  const size_t rows = std::max<size_t>(1, kPieceBytes / row_bytes);
  return kMaxAnswerHeader + rows * (row_bytes + sizeof(uint32_t));
}

void GatherStream::Listen(CallContext& context) { new GatherStream(context); }

GatherStream::GatherStream(CallContext& context)
    : context_(context),
      count_(context),
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
}

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
  // An id that is under way keeps its one last answer for itself.
  if (ids_.contains(request.request_id)) {
    return AnswerError(0, absl::InvalidArgumentError(absl::StrCat("request id ", request.request_id,
                                                                  " is still being answered")));
  }
  if (status.ok()) status = Admit(request);
  if (!status.ok()) return AnswerError(request.request_id, status);
  const absl::Time now = absl::Now();
  std::unique_ptr<Pending> pending = std::move(spare_.back());
  spare_.pop_back();
  pending->deadline = request.budget_us == 0
                          ? absl::InfiniteFuture()
                          : now + absl::Microseconds(static_cast<int64_t>(
                                      std::min<uint64_t>(request.budget_us, INT64_MAX)));
  pending->next_row = 0;
  pending->next_piece = 0;
  ids_.insert(request.request_id);
  const bool prefill = request.priority == WirePriority::kPrefill;
  if (!prefill) context_.last_decode = now;
  (prefill ? prefill_ : decode_).push_back(std::move(pending));
}

absl::Status GatherStream::Decode(StreamRequest& request) {
  const GrpcMemoryReads reads;
  grpc::ProtoBufferReader reader(&incoming_);
  if (!reader.status().ok()) return absl::InvalidArgumentError("unreadable message");
  return DecodeStreamRequest(&reader, context_.options.max_rows_per_request, request);
}

absl::Status GatherStream::Admit(const StreamRequest& request) {
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
    return absl::ResourceExhaustedError(absl::StrCat("more than ",
                                                     context_.options.max_requests_in_flight,
                                                     " requests are in flight on this stream"));
  }
  return AdmitGather(context_.table, request.digest, request.layer, request.flags, request.rows,
                     request.wide_rows);
}

void GatherStream::CancelRequest(uint64_t request_id) {
  for (auto* queue : {&decode_, &prefill_}) {
    const auto it = std::find_if(queue->begin(), queue->end(), [&](const auto& pending) {
      return pending->request.request_id == request_id;
    });
    if (it == queue->end()) continue;
    Retire(*queue, it);
    return AnswerError(request_id, absl::CancelledError("cancelled by the client"));
  }
  // Answered already: the cancel came too late, which is no error.
}

void GatherStream::AnswerError(uint64_t request_id, const absl::Status& status) {
  short_messages_.push_back(EncodeErrorAnswer(request_id, status));
}

void GatherStream::Retire(PendingQueue& queue, PendingQueue::iterator pending) {
  ids_.erase((*pending)->request.request_id);
  spare_.push_back(std::move(*pending));
  queue.erase(pending);
}

void GatherStream::AwaitTurn() {
  if (has_urgent()) context_.answers.Add(answers_turn_);
  if (!prefill_.empty()) context_.prefill.Add(prefill_turn_);
}

void GatherStream::WriteNext() {
  if (!can_write()) return;
  if (!short_messages_.empty()) {
    const grpc::Slice slice(short_messages_.front());
    short_messages_.pop_front();
    return Write(slice, NextLayer());
  }
  if (!decode_.empty()) return WritePiece(decode_, kPieceBytes);
  if (!prefill_.empty()) return context_.prefill.Add(prefill_turn_);
  EndIfQuiet();
}

void GatherStream::WritePrefill() {
  // What is more urgent may have come since.
  if (!can_write() || has_urgent() || prefill_.empty()) return WriteNext();
  WritePiece(prefill_, BesideDecode() ? kPieceBytesBesideDecode : kPieceBytes);
}

bool GatherStream::BesideDecode() const {
  return absl::Now() - context_.last_decode < kDecodeActive;
}

// Writes the next piece of the first request of `queue`, or its error. Requests of one stream and
// priority are answered one after the other: the client has sent what it needs first first.
void GatherStream::WritePiece(PendingQueue& queue, size_t piece_bytes) {
  Pending* const pending = queue.front().get();
  const StreamRequest& request = pending->request;
  const size_t row_bytes = context_.table.rows->layout().row_bytes();
  const size_t count =
      std::min(pending->rows() - pending->next_row, std::max<size_t>(1, piece_bytes / row_bytes));
  checksums_.resize((request.flags & kFlagChecksums) != 0 ? count : 0);
  // The header's length is known when all of it is; it goes right before the rows.
  const size_t room = kMaxAnswerHeader + checksums_.size() * sizeof(uint32_t);
  AnswerPool::Buffer buffer = context_.pool->Take(room + count * row_bytes);
  const absl::Status status = GatherPiece(*pending, count, buffer.data() + room);
  if (!status.ok()) {
    const grpc::Slice error(EncodeErrorAnswer(request.request_id, status));
    Retire(queue, queue.begin());
    return Write(error, NextLayer());
  }
  const bool last = pending->next_row + count == pending->rows();
  header_.resize(room);
  const size_t header_bytes = EncodeAnswerHeader(request.request_id, pending->next_piece, last,
                                                 checksums_, count * row_bytes, header_.data());
  std::copy_n(header_.data(), header_bytes, buffer.data() + room - header_bytes);
  pending->next_row += count;
  ++pending->next_piece;
  const uint32_t layer = request.layer;
  if (last) Retire(queue, queue.begin());
  Write(std::move(buffer).IntoSlice(room - header_bytes, room + count * row_bytes), layer);
}

absl::Status GatherStream::GatherPiece(const Pending& pending, size_t count, uint8_t* rows) {
  if (pending.deadline != absl::InfiniteFuture() && absl::Now() > pending.deadline) {
    return absl::DeadlineExceededError("the request's time was over before its rows were gathered");
  }
  const StreamRequest& request = pending.request;
  const auto gather = [&](auto ids) {
    return context_.table.rows->Gather(request.layer, ids.subspan(pending.next_row, count), rows,
                                       checksums_.empty() ? nullptr : checksums_.data());
  };
  return request.wide_rows.empty() ? gather(std::span<const uint32_t>(request.rows))
                                   : gather(std::span<const uint64_t>(request.wide_rows));
}

uint32_t GatherStream::NextLayer() const {
  return decode_.empty() ? kMaxLayerId + 1 : decode_.front()->request.layer;
}

size_t GatherStream::BytesAtOnce(uint32_t layer) const {
  if (has_urgent()) return NextLayer() == layer ? kSendBytes : kSendBytesOfLayer;
  // Prefill takes its turn for every piece; those of one send leave together.
  return prefill_.empty() || BesideDecode() ? 0 : kSendBytes;
}

void GatherStream::Write(const grpc::Slice& message, uint32_t layer) {
  writing_ = true;
  // Whatever else waits will be a message, whatever becomes of it. The first one carries the
  // call's headers, which gRPC takes for written only when they have left.
  bytes_buffered_ += message.size();
  buffering_ = std::exchange(has_written_, true) && bytes_buffered_ < BytesAtOnce(layer);
  if (!buffering_) bytes_buffered_ = 0;
  grpc::WriteOptions options;
  if (buffering_) options.set_buffer_hint();
  stream_.Write(grpc::ByteBuffer(&message, 1), options, written_.Tag());
}

void GatherStream::OnWritten(bool ok) {
  writing_ = false;
  if (!ok) broken_ = true;
  if (broken_) return EndIfQuiet();
  Read();
  if (buffering_) return WriteNext();
  AwaitTurn();
  EndIfQuiet();
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
                 finished_.Tag());
}

void GatherStream::OnFinished(bool) {
  finished_done_ = true;
  // A read may still be under way when the server ended the call; it comes back failed.
  if (!reading_) delete this;
}

}  // namespace engram

#include "service/gather_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <span>
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
  if (status.ok()) status = Admit(*spare_.back());
  if (!status.ok()) return AnswerError(request.request_id, status, request.digest);
  std::unique_ptr<Pending> pending = std::move(spare_.back());
  spare_.pop_back();
  pending->received_ns = absl::GetCurrentTimeNanos();
  pending->deadline_ns =
      request.budget_us == 0 || request.budget_us > kMaxBudgetUs
          ? INT64_MAX
          : pending->received_ns + static_cast<int64_t>(request.budget_us) * 1000;
  pending->gathering_ns = 0;
  pending->next_row = 0;
  pending->next_piece = 0;
  ids_.insert(request.request_id);
  const bool prefill = request.priority == WirePriority::kPrefill;
  if (!prefill) context_.last_decode = absl::FromUnixNanos(pending->received_ns);
  counters.rows.Observe(pending->rows());
  counters.in_flight.Add(1);
  counters.in_flight_rows.Add(pending->rows());
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
  if (share_ == nullptr) return absl::OkStatus();
  const absl::Status taken = share_->Take(admitted.rows());
  return taken.ok() ? taken : Refused(taken);
}

absl::Status GatherStream::Refused(absl::Status error) const {
  return WithRetryAfter(std::move(error), absl::Nanoseconds(usual_ns_));
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
  context_.counters->in_flight_rows.Subtract((*pending)->rows() - (*pending)->next_row);
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

void GatherStream::AwaitTurn() {
  if (has_urgent()) context_.answers.Add(answers_turn_);
  AwaitPrefillTurn();
}

// Where requests come too late, those that were begun are ended first: all of them at once would
// all be late.
bool GatherStream::AwaitPrefillTurn() {
  const auto next = Next(prefill_);
  if (next == prefill_.end()) return false;
  const bool begun = (*next)->next_row != 0;
  context_.prefill.Add(prefill_turn_, begun && context_.lateness.late(absl::GetCurrentTimeNanos()));
  return true;
}

void GatherStream::WriteNext() {
  if (!can_write()) return;
  if (!short_messages_.empty()) {
    const grpc::Slice slice(short_messages_.front());
    short_messages_.pop_front();
    return Write(grpc::ByteBuffer(&slice, 1), NextLayer());
  }
  for (auto next = Next(decode_); next != decode_.end(); next = Next(decode_)) {
    if (WritePiece(decode_, next, kPieceBytes)) return;
  }
  if (!AwaitPrefillTurn()) EndIfQuiet();
}

void GatherStream::WritePrefill() {
  // What is more urgent may have come since.
  if (!can_write() || has_urgent()) return WriteNext();
  for (auto next = Next(prefill_); next != prefill_.end(); next = Next(prefill_)) {
    if (WritePiece(prefill_, next, BesideDecode() ? kPieceBytesBesideDecode : kPieceBytes)) return;
  }
}

// In their order, but for those that wait for the disk.
GatherStream::PendingQueue::iterator GatherStream::Next(PendingQueue& queue) {
  const size_t most = &queue == &decode_ ? kBytesInTheAirOfDecode : kBytesInTheAir;
  return std::find_if(queue.begin(), queue.end(), [&](const auto& pending) {
    return pending->piece == nullptr ? bytes_in_the_air_ < most : !pending->piece->in_the_air;
  });
}

bool GatherStream::BesideDecode() const {
  return absl::Now() - context_.last_decode < kDecodeActive;
}

// Writes the next piece of a request, or its error. Requests of one stream and priority are
// answered one after the other: the client has sent what it needs first first.
bool GatherStream::WritePiece(PendingQueue& queue, PendingQueue::iterator it, size_t piece_bytes) {
  Pending& pending = **it;
  absl::Status status;
  if (pending.piece == nullptr) status = StartPiece(pending, piece_bytes);
  if (status.ok()) {
    if (pending.piece->in_the_air) return false;
    status = pending.piece->gather.status;
  }
  if (status.ok()) {
    WriteAnswer(queue, it);
    return true;
  }
  const grpc::Slice error(EncodeErrorAnswer(pending.request.request_id, status));
  CountError(status, pending.request.digest);
  LogError(pending.request.request_id, status);
  Retire(queue, it);
  Write(grpc::ByteBuffer(&error, 1), NextLayer());
  return true;
}

GatherStream::Piece::Piece(GatherStream& stream)
    : back([this, &stream](bool) { stream.OnBack(*this); }) {
  gather.done = [this, &stream] { BringBack(alarm, stream.context_.queue.get(), back); };
}

absl::Status GatherStream::StartPiece(Pending& pending, size_t piece_bytes) {
  const int64_t now_ns = absl::GetCurrentTimeNanos();
  const bool begun = pending.next_row != 0;
  if (!begun) pending.gather_ns = now_ns;
  if (context_.lateness.TooLate(begun, pending.received_ns, pending.deadline_ns, now_ns)) {
    return absl::DeadlineExceededError(
        absl::StrCat("the request's rows would come too late: ", pending.next_row,
                     " were gathered in ", (now_ns - pending.received_ns) / 1000, " us, of the ",
                     pending.request.budget_us, " us that it has"));
  }
  const StreamRequest& request = pending.request;
  const RowStore& store = *pending.generation->rows;
  if (spare_pieces_.empty()) spare_pieces_.push_back(std::make_unique<Piece>(*this));
  pending.piece = std::move(spare_pieces_.back());
  spare_pieces_.pop_back();
  Piece& piece = *pending.piece;
  piece.begun_ns = now_ns;
  const size_t row_bytes = store.layout().row_bytes();
  piece.count =
      std::min(pending.rows() - pending.next_row, std::max<size_t>(1, piece_bytes / row_bytes));
  piece.checksums.resize((request.flags & kFlagChecksums) != 0 ? piece.count : 0);
  // The header's length is known when all of it is; it goes right before the rows.
  piece.room = kMaxAnswerHeader + piece.checksums.size() * sizeof(uint32_t);
  piece.buffer.emplace(context_.pool->Take(piece.room + piece.count * row_bytes));
  piece.gather.out = piece.buffer->data() + piece.room;
  piece.gather.checksums = piece.checksums.empty() ? nullptr : piece.checksums.data();
  piece.gather.urgent = request.priority != WirePriority::kPrefill;
  const auto start = [&](auto ids) {
    return store.StartGather(request.layer, ids.subspan(pending.next_row, piece.count),
                             piece.gather);
  };
  piece.in_the_air =
      !(request.wide_rows.empty() ? start(std::span<const uint32_t>(request.rows))
                                  : start(std::span<const uint64_t>(request.wide_rows)));
  if (piece.in_the_air) {
    piece.generation = pending.generation;
    ++pieces_in_the_air_;
    bytes_in_the_air_ += piece.count * row_bytes;
  } else {
    piece.took_ns = absl::GetCurrentTimeNanos() - now_ns;
  }
  return absl::OkStatus();
}

void GatherStream::OnBack(Piece& piece) {
  piece.in_the_air = false;
  piece.took_ns = absl::GetCurrentTimeNanos() - piece.begun_ns;
  piece.generation.reset();
  --pieces_in_the_air_;
  bytes_in_the_air_ -= piece.count * context_.table.rows->layout().row_bytes();
  const auto unwanted = std::find_if(unwanted_.begin(), unwanted_.end(),
                                     [&](const auto& other) { return other.get() == &piece; });
  if (unwanted != unwanted_.end()) {
    piece.buffer.reset();
    spare_pieces_.push_back(std::move(*unwanted));
    unwanted_.erase(unwanted);
  }
  AwaitTurn();
  EndIfQuiet();
}

void GatherStream::WriteAnswer(PendingQueue& queue, PendingQueue::iterator it) {
  Pending& pending = **it;
  Piece& piece = *pending.piece;
  const uint64_t id = pending.request.request_id;
  const uint32_t layer = pending.request.layer;
  const size_t rows_bytes = piece.count * context_.table.rows->layout().row_bytes();
  const bool last = pending.next_row + piece.count == pending.rows();
  std::vector<std::pair<uint32_t, uint32_t>> failures;
  for (const RowFailure& failure : piece.gather.failures) {
    failures.emplace_back(static_cast<uint32_t>(pending.next_row + failure.position),
                          static_cast<uint32_t>(failure.code));
  }
  header_.resize(piece.room + failures.size() * kMaxFailureBytes);
  const size_t header_bytes = EncodeAnswerHeader(id, pending.next_piece, last, failures,
                                                 piece.checksums, rows_bytes, header_.data());
  AnswerPool::Buffer buffer = *std::move(piece.buffer);
  const size_t room = piece.room;
  piece.buffer.reset();
  pending.next_row += piece.count;
  pending.gathering_ns += piece.took_ns;
  ++pending.next_piece;
  ServerCounters& counters = *context_.counters;
  counters.in_flight_rows.Subtract(piece.count);
  counters.sent_rows.Add(piece.count - failures.size());
  counters.sent_row_bytes.Add(rows_bytes);
  if (!failures.empty()) counters.lost_rows.Add(failures.size());
  writing_last_ = last;
  if (last) {
    const StreamRequest& request = pending.request;
    written_request_ = {.id = request.request_id,
                        .layer = request.layer,
                        .rows = pending.rows(),
                        .prefill = request.priority == WirePriority::kPrefill,
                        .received_ns = pending.received_ns,
                        .queue_ns = pending.gather_ns - pending.received_ns,
                        .gather_ns = pending.gathering_ns};
  }
  spare_pieces_.push_back(std::move(pending.piece));
  if (last) Retire(queue, it);
  if (header_bytes <= room) {
    std::copy_n(header_.data(), header_bytes, buffer.data() + room - header_bytes);
    const grpc::Slice message = std::move(buffer).IntoSlice(room - header_bytes, room + rows_bytes);
    return Write(grpc::ByteBuffer(&message, 1), layer);
  }
  const grpc::Slice message[] = {grpc::Slice(header_.data(), header_bytes),
                                 std::move(buffer).IntoSlice(room, room + rows_bytes)};
  Write(grpc::ByteBuffer(message, 2), layer);
}

uint32_t GatherStream::NextLayer() const {
  return decode_.empty() ? kMaxLayerId + 1 : decode_.front()->request.layer;
}

size_t GatherStream::BytesAtOnce(uint32_t layer) {
  // What comes next may have to wait for the disk, and nothing must wait for that.
  if (context_.table.rows->may_wait()) return 0;
  if (has_urgent()) return NextLayer() == layer ? kSendBytes : kSendBytesOfLayer;
  // Prefill takes its turn for every piece; those of one send leave together.
  return prefill_.empty() || BesideDecode() ? 0 : kSendBytes;
}

void GatherStream::Write(const grpc::ByteBuffer& message, uint32_t layer) {
  writing_ = true;
  // Whatever else waits will be a message, whatever becomes of it. The first one carries the
  // call's headers, which gRPC takes for written only when they have left.
  bytes_buffered_ += message.Length();
  buffering_ = std::exchange(has_written_, true) && bytes_buffered_ < BytesAtOnce(layer);
  if (!buffering_) bytes_buffered_ = 0;
  grpc::WriteOptions options;
  if (buffering_) options.set_buffer_hint();
  stream_.Write(message, options, written_.Tag());
}

void GatherStream::CountAnswered() {
  ServerCounters& counters = *context_.counters;
  // A clock that is set may run backwards.
  const auto observe = [](LatencyHistogram& histogram, int64_t ns) {
    histogram.Observe(static_cast<uint64_t>(std::max<int64_t>(0, ns)));
  };
  SlowRequest& request = written_request_;
  const int64_t now_ns = absl::GetCurrentTimeNanos();
  const int64_t took_ns = now_ns - request.received_ns;
  request.send_ns = took_ns - request.queue_ns - request.gather_ns;
  usual_ns_ += (std::max<int64_t>(0, took_ns) - usual_ns_) / 8;
  observe(counters.duration, took_ns);
  observe(counters.queue, request.queue_ns);
  observe(counters.gather, request.gather_ns);
  observe(counters.send, request.send_ns);
  if (!context_.slow->IsSlow(took_ns, now_ns)) return;
  request.peer = server_context_.peer();
  context_.slow->Add(request, now_ns);
}

void GatherStream::OnWritten(bool ok) {
  writing_ = false;
  if (std::exchange(writing_last_, false)) {
    ok ? CountAnswered() : context_.counters->Error(ErrorReason::kCancelled);
  }
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

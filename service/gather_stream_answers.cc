// Answers as they are made and written: whose turn it is, a piece at a time.
#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/gather_stream.h"

namespace engram {

size_t AnswerBufferBytes(size_t row_bytes) {
  const size_t rows = std::max<size_t>(1, kPieceBytes / row_bytes);
  return kMaxAnswerHeader + rows * (row_bytes + sizeof(uint32_t));
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
  bytes_in_the_air_ -= BytesOf(piece.count);
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
  const size_t rows_bytes = BytesOf(piece.count);
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
  backlog_.Subtract(pending.request.priority, rows_bytes);
  context_.backlog.OnAnswered(rows_bytes, absl::GetCurrentTimeNanos());
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
  backlog_.BeginWrite(absl::GetCurrentTimeNanos());
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
  backlog_.EndWrite();
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

}  // namespace engram

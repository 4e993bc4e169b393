// One GatherStream call: reads requests, answers them piece by piece, the urgent ones first.
#ifndef ENGRAM_SERVICE_GATHER_STREAM_H_
#define ENGRAM_SERVICE_GATHER_STREAM_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/wire.h"
#include "service/answer_pool.h"
#include "service/call.h"

namespace engram {

// Bytes of rows in one message: they keep the pipe busy, and are still in the core's cache when the
// kernel copies them.
inline constexpr size_t kPieceBytes = 256 << 10;
// Of prefill answers while decode requests come to the same thread (one within kDecodeActive): a
// decode request waits for at most one of them.
inline constexpr size_t kPieceBytesBesideDecode = 64 << 10;
inline constexpr absl::Duration kDecodeActive = absl::Milliseconds(50);
// Messages leave in one send while they are smaller together: a system call costs nothing beside
// more. The end of a layer's rows waits for another layer's only with less.
inline constexpr size_t kSendBytes = 512 << 10;
inline constexpr size_t kSendBytesOfLayer = 64 << 10;
// Decode requests that are taken in before the first of them is answered, at most.
inline constexpr size_t kDecodeBurst = 16;
// Bytes of rows that a stream waits for from the disk at a time; beyond them no other piece of
// prefill, or of decode, is begun.
inline constexpr size_t kBytesInTheAir = 4 << 20;
inline constexpr size_t kBytesInTheAirOfDecode = 16 << 20;

// Bytes that a buffer of the pool must hold for one piece of rows of that size.
size_t AnswerBufferBytes(size_t row_bytes);

// Invariants
// 1. All of it runs on the thread of its completion queue: no locks.
// 2. At most one read and one write are under way. While a write is, everything else waits: the
//    answers of one stream hold one pooled buffer beside what gRPC still sends.
// 3. Every request id that was read gets exactly one answer with `last`, unless the stream breaks.
//    A piece whose rows come from a disk is in the air: it holds a buffer of its own, which is the
//    store's until an alarm brings the piece back. Whatever can be answered meanwhile is.
// 4. Reading stops while more short messages wait than requests may be in flight: a client that
//    sends and never reads takes bounded memory.
// 5. Answers are written in a turn, when the queue has no event waiting (a burst of decode requests
//    sooner): small messages of a turn are buffered and leave with its last one, in one send.
//    A piece of prefill has a turn of its own, after those.
// 6. The object deletes itself when nothing is under way and the call is over.
class GatherStream final : public LongCall {
 public:
  // Waits for the next call of this method on the queue; one object serves one call.
  static void Listen(CallContext& context);

  void BeginDrain() override;
  void OnStoreFailure() override { BeginDrain(); }  // clients should go elsewhere
  void OnHeldChanged() override;
  void End() override;

 private:
  // A request that has been admitted and not answered to its end. Used again and again: its vectors
  // keep their memory.
  struct Piece;
  struct Pending {
    StreamRequest request;
    std::shared_ptr<const HeldGeneration> generation;  // from which it is answered
    int64_t received_ns = 0;                           // Unix time; all of its times are
    int64_t deadline_ns = 0;                           // INT64_MAX: none
    int64_t gather_ns = 0;                             // when its first piece was begun
    int64_t gathering_ns = 0;                          // that its pieces have taken
    uint64_t next_row = 0;
    uint32_t next_piece = 0;
    std::unique_ptr<Piece> piece;  // in the air, or back from there

    size_t rows() const { return request.rows.size() + request.wide_rows.size(); }
  };
  using PendingQueue = std::deque<std::unique_ptr<Pending>>;

  // The next rows of a request, gathered or in the air. Used again and again.
  struct Piece {
    explicit Piece(GatherStream& stream);

    std::optional<AnswerPool::Buffer> buffer;
    size_t room = 0;  // before the rows
    size_t count = 0;
    int64_t begun_ns = 0;
    int64_t took_ns = 0;  // once gathered
    std::vector<uint32_t> checksums;
    PendingGather gather;
    std::shared_ptr<const HeldGeneration> generation;  // whose store has it, while in the air
    bool in_the_air = false;
    grpc::Alarm alarm;
    Completion back;
  };

  explicit GatherStream(CallContext& context);
  ~GatherStream() override;

  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);

  // Starts the next read, unless one is under way or it must wait (invariant 4).
  void Read();
  void Receive();
  absl::Status Decode(StreamRequest& request);
  absl::Status Admit(Pending& pending);
  // Whether it would be answered in time.
  absl::Status CheckTime(const Pending& pending);
  uint64_t BytesOf(uint64_t rows) const;
  void CancelRequest(uint64_t request_id);
  // Once per stream, before anything is refused.
  void NoticeDrain();
  // `digest`: the request's.
  void AnswerError(uint64_t request_id, const absl::Status& status, absl::string_view digest);
  // Whether the caller may have a stream, and its share of what a client may have.
  absl::Status Open();
  void LogError(uint64_t request_id, const absl::Status& status);
  void CountError(const absl::Status& status, absl::string_view digest);
  // Waits for the turn in which what there is to write is written.
  void AwaitTurn();
  // False: no prefill is to be written.
  bool AwaitPrefillTurn();
  // Writes the next message, if none is being written: notices and errors, then a piece of the
  // first decode request; prefill waits for its turn.
  void WriteNext();
  void WritePrefill();
  bool BesideDecode() const;
  // Messages leave together while they are smaller than that; 0: what is written leaves at once.
  // `layer`: that of the message written last.
  size_t BytesAtOnce(uint32_t layer);
  // The first request whose next piece can be begun or written; queue.end(): there is none.
  PendingQueue::iterator Next(PendingQueue& queue);
  // False: its rows are in the air now.
  bool WritePiece(PendingQueue& queue, PendingQueue::iterator pending, size_t piece_bytes);
  // Begins to gather the next piece.
  absl::Status StartPiece(Pending& pending, size_t piece_bytes);
  void OnBack(Piece& piece);
  void WriteAnswer(PendingQueue& queue, PendingQueue::iterator pending);
  // Layer of the decode request that is answered next; kMaxLayerId + 1: none waits.
  uint32_t NextLayer() const;
  // `layer`: that the message is an answer of.
  void Write(const grpc::ByteBuffer& message, uint32_t layer);
  bool has_urgent() { return !short_messages_.empty() || Next(decode_) != decode_.end(); }
  void EndIfQuiet();
  bool can_write() const { return !writing_ && !broken_ && !finishing_; }
  size_t pending() const { return decode_.size() + prefill_.size(); }
  // `error`, with when to ask again: not before some of what is in flight has been answered.
  absl::Status Refused(absl::Status error) const;
  // Counts the request whose last piece has been written.
  void CountAnswered();
  // Ends the life of a request in flight.
  void Retire(PendingQueue& queue, PendingQueue::iterator pending);

  CallContext& context_;
  const CallCount count_;
  Backlog::Stream backlog_;
  grpc::ServerContext server_context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  grpc::ByteBuffer incoming_;

  std::deque<std::string> short_messages_;  // errors and notices, whole
  PendingQueue decode_;
  PendingQueue prefill_;
  std::vector<std::unique_ptr<Pending>> spare_;
  absl::flat_hash_set<uint64_t> ids_;  // of requests in decode_ and prefill_
  std::vector<uint8_t> header_;
  std::vector<std::unique_ptr<Piece>> spare_pieces_;
  std::vector<std::unique_ptr<Piece>> unwanted_;  // in the air, of requests that were cancelled
  size_t bytes_in_the_air_ = 0;
  size_t pieces_in_the_air_ = 0;

  bool started_ok_ = false;  // a call has come
  absl::Status denied_;      // the caller may not look up
  bool reading_ = false;
  bool writing_ = false;
  bool buffering_ = false;  // what is being written leaves with the next message
  size_t bytes_buffered_ = 0;
  bool has_written_ = false;  // the call's headers are out
  // What is being written is the last of a request, whose times these were.
  bool writing_last_ = false;
  int64_t usual_ns_ = 0;                         // what requests have taken of late, smoothed
  SlowRequest written_request_;                  // without its peer and what sending took
  std::unique_ptr<ClientLimits::Stream> share_;  // of the client; null: without bounds
  bool noticed_ = false;                         // the drain notice was queued
  bool read_closed_ = false;                     // the client sends no more
  bool broken_ = false;                          // the connection is gone
  bool ending_ = false;                          // the server ends
  bool finishing_ = false;
  bool finished_done_ = false;

  Completion started_, read_, written_, finished_;
  Turns::Turn answers_turn_, prefill_turn_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_GATHER_STREAM_H_

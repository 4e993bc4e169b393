// One GatherStream call: reads requests, answers them piece by piece, the urgent ones first.
#ifndef ENGRAM_SERVICE_GATHER_STREAM_H_
#define ENGRAM_SERVICE_GATHER_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
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

// Bytes that a buffer of the pool must hold for one piece of rows of that size.
size_t AnswerBufferBytes(size_t row_bytes);

// Invariants
// 1. All of it runs on the thread of its completion queue: no locks.
// 2. At most one read and one write are under way. While a write is, everything else waits: the
//    answers of one stream hold one pooled buffer beside what gRPC still sends.
// 3. Every request id that was read gets exactly one answer with `last`, unless the stream breaks.
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
  void End() override;

 private:
  // A request that has been admitted and not answered to its end. Used again and again: its vectors
  // keep their memory.
  struct Pending {
    StreamRequest request;
    absl::Time deadline;
    uint64_t next_row = 0;
    uint32_t next_piece = 0;

    size_t rows() const { return request.rows.size() + request.wide_rows.size(); }
  };
  using PendingQueue = std::deque<std::unique_ptr<Pending>>;

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
  absl::Status Admit(const StreamRequest& request);
  void CancelRequest(uint64_t request_id);
  // Once per stream, before anything is refused.
  void NoticeDrain();
  void AnswerError(uint64_t request_id, const absl::Status& status);
  // Waits for the turn in which what there is to write is written.
  void AwaitTurn();
  // Writes the next message, if none is being written: notices and errors, then a piece of the
  // first decode request; prefill waits for its turn.
  void WriteNext();
  void WritePrefill();
  bool BesideDecode() const;
  // Messages leave together while they are smaller than that; 0: what is written leaves at once.
  // `layer`: that of the message written last.
  size_t BytesAtOnce(uint32_t layer) const;
  void WritePiece(PendingQueue& queue, size_t piece_bytes);
  absl::Status GatherPiece(const Pending& pending, size_t count, uint8_t* rows);
  // Layer of the decode request that is answered next; kMaxLayerId + 1: none waits.
  uint32_t NextLayer() const;
  // `layer`: that the message is an answer of.
  void Write(const grpc::Slice& message, uint32_t layer);
  bool has_urgent() const { return !short_messages_.empty() || !decode_.empty(); }
  void EndIfQuiet();
  bool can_write() const { return !writing_ && !broken_ && !finishing_; }
  size_t pending() const { return decode_.size() + prefill_.size(); }
  // Ends the life of a request in flight.
  void Retire(PendingQueue& queue, PendingQueue::iterator pending);

  CallContext& context_;
  const CallCount count_;
  grpc::ServerContext server_context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  grpc::ByteBuffer incoming_;

  std::deque<std::string> short_messages_;  // errors and notices, whole
  PendingQueue decode_;
  PendingQueue prefill_;
  std::vector<std::unique_ptr<Pending>> spare_;
  absl::flat_hash_set<uint64_t> ids_;  // of requests in decode_ and prefill_
  std::vector<uint8_t> header_;
  std::vector<uint32_t> checksums_;

  bool reading_ = false;
  bool writing_ = false;
  bool buffering_ = false;  // what is being written leaves with the next message
  size_t bytes_buffered_ = 0;
  bool has_written_ = false;  // the call's headers are out
  bool noticed_ = false;      // the drain notice was queued
  bool read_closed_ = false;  // the client sends no more
  bool broken_ = false;       // the connection is gone
  bool ending_ = false;       // the server ends
  bool finishing_ = false;
  bool finished_done_ = false;

  Completion started_, read_, written_, finished_;
  Turns::Turn answers_turn_, prefill_turn_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_GATHER_STREAM_H_

// One GatherStream call: reads requests, answers them piece by piece, the urgent ones first.
#ifndef ENGRAM_SERVICE_GATHER_STREAM_H_
#define ENGRAM_SERVICE_GATHER_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/wire.h"
#include "service/answer_pool.h"
#include "service/call.h"

namespace engram {

// Invariants
// 1. All of it runs on the thread of its completion queue: no locks.
// 2. At most one read and one write are under way. While a write is, everything else waits: the
//    answers of one stream hold one pooled buffer beside what gRPC still sends.
// 3. Every request id that was read gets exactly one answer with `last`, unless the stream breaks.
// 4. Reading stops while more short messages wait than requests may be in flight: a client that
//    sends and never reads takes bounded memory.
// 5. The object deletes itself when nothing is under way and the call is over.
class GatherStream final : public LongCall {
 public:
  // Waits for the next call of this method on the queue; one object serves one call.
  static void Listen(CallContext& context);

  void BeginDrain() override;
  void End() override;

 private:
  // A request that has been admitted and not answered to its end.
  struct Pending {
    StreamRequest request;
    absl::Time deadline;
    uint64_t next_row = 0;
    uint32_t next_piece = 0;

    size_t rows() const { return request.rows.size() + request.wide_rows.size(); }
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
  absl::Status Admit();
  void CancelRequest(uint64_t request_id);
  // Once per stream, before anything is refused.
  void NoticeDrain();
  void AnswerError(uint64_t request_id, const absl::Status& status);
  // Writes the next message, if none is being written: notices and errors, then a piece of the
  // first request of the highest priority.
  void WriteNext();
  void WritePiece(std::deque<Pending>& queue);
  void Write(const grpc::ByteBuffer& message);
  void EndIfQuiet();
  size_t pending() const { return decode_.size() + prefill_.size(); }

  CallContext& context_;
  const CallCount count_;
  grpc::ServerContext server_context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  grpc::ByteBuffer incoming_;
  StreamRequest request_;

  std::deque<std::string> short_messages_;  // errors and notices, whole
  std::deque<Pending> decode_;
  std::deque<Pending> prefill_;
  std::unordered_set<uint64_t> ids_;  // of requests in decode_ and prefill_
  std::string header_;
  std::vector<uint32_t> checksums_;

  bool reading_ = false;
  bool writing_ = false;
  bool noticed_ = false;      // the drain notice was queued
  bool read_closed_ = false;  // the client sends no more
  bool broken_ = false;       // the connection is gone
  bool ending_ = false;       // the server ends
  bool finishing_ = false;
  bool finished_done_ = false;

  Completion started_, read_, written_, finished_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_GATHER_STREAM_H_

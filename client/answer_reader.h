// The bytes of a GatherStream as they come -> answers, whose rows are handed on at once.
#ifndef ENGRAM_CLIENT_ANSWER_READER_H_
#define ENGRAM_CLIENT_ANSWER_READER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "proto/wire.h"

namespace engram {

// Takes a call's messages, each behind its five bytes of gRPC framing, in chunks that are cut
// anywhere. No message is ever held whole: rows go to the sink as they come. Not thread-safe.
class AnswerReader {
 public:
  // Anything but OK stops the reader.
  class Sink {
   public:
    virtual ~Sink() = default;
    // An answer or a notice; `header.rows_bytes` bytes of rows follow.
    virtual absl::Status OnAnswer(const StreamResponse& header) = 0;
    // The next of those bytes, valid during the call.
    virtual absl::Status OnRows(std::span<const uint8_t> bytes) = 0;
    // All of them have come.
    virtual absl::Status OnAnswerEnd() = 0;
  };

  // Borrows `sink`.
  explicit AnswerReader(Sink* sink) : sink_(sink) {}

  // InvalidArgument: what came is no such message, or too large for one; else what the sink
  // returned. After a failure the call is of no more use.
  absl::Status Feed(std::span<const uint8_t> bytes);

  // A new call begins.
  void Reset();

 private:
  // Each takes what it can from the front of `bytes`.
  absl::Status ReadPrefix(std::span<const uint8_t>& bytes);
  absl::Status ReadHeader(std::span<const uint8_t>& bytes);
  absl::Status ReadRows(std::span<const uint8_t>& bytes);

  enum class State { kPrefix, kHeader, kRows };

  Sink* const sink_;
  State state_ = State::kPrefix;
  std::vector<uint8_t> partial_;  // of a prefix or header that is cut
  uint64_t message_bytes_ = 0;
  uint64_t rows_left_ = 0;  // bytes
  StreamResponse header_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_ANSWER_READER_H_

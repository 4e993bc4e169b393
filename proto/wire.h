// The messages of GatherStream, encoded and decoded by hand: ordinary protobuf on the wire (see
// engram/v1/engram.proto), but ids go straight from and into arrays and row bytes are never copied
// into a message object. All but DecodeStreamRequest, the server's, does without protobuf's
// runtime.
#ifndef ENGRAM_PROTO_WIRE_H_
#define ENGRAM_PROTO_WIRE_H_

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/sha256.h"

namespace google::protobuf::io {
class ZeroCopyInputStream;
}  // namespace google::protobuf::io

namespace engram {

// Values of the enums in engram.proto.
enum class RequestKind : uint32_t { kUnspecified = 0, kGather = 1, kCancel = 2 };
enum class ResponseKind : uint32_t { kUnspecified = 0, kAnswer = 1, kDraining = 2, kChanged = 3 };
enum class WirePriority : uint32_t { kUnspecified = 0, kDecode = 1, kPrefill = 2 };
inline constexpr uint32_t kFlagChecksums = 1;

struct StreamRequest {
  uint64_t request_id = 0;
  RequestKind kind = RequestKind::kUnspecified;  // may hold a number this version does not know
  std::string digest;                            // raw bytes; 32 in a well-formed gather
  uint32_t layer = 0;
  WirePriority priority = WirePriority::kUnspecified;
  uint64_t budget_us = 0;
  uint32_t flags = 0;
  std::vector<uint32_t> rows;
  std::vector<uint64_t> wide_rows;
};

// Reads one message. InvalidArgument: not protobuf, a wrong wire type, a packed field cut off, or
// more than `max_rows` ids. `request` is reused: what the message does not set is reset, vectors
// keep their capacity. After an error `request.request_id` holds the id if it had been read.
absl::Status DecodeStreamRequest(google::protobuf::io::ZeroCopyInputStream* input,
                                 uint64_t max_rows, StreamRequest& request);

// Bytes that EncodeGatherRequest writes at most before the ids themselves.
inline constexpr size_t kMaxRequestHeader = 128;

// Writes everything of a gather request but the ids' bytes to `out` (which must hold
// kMaxRequestHeader bytes) and returns how many; the ids, little-endian, must follow directly:
// `rows` u32 each, or with `wide` u64 each.
size_t EncodeRequestHeader(uint64_t request_id, const Sha256& digest, uint32_t layer,
                           WirePriority priority, uint64_t budget_us, uint32_t flags, uint64_t rows,
                           bool wide, uint8_t* out);

// The whole message that cancels a request.
std::string EncodeCancel(uint64_t request_id);

struct StreamResponse {
  uint64_t request_id = 0;
  ResponseKind kind = ResponseKind::kUnspecified;
  uint32_t code = 0;  // a google.rpc.Code
  std::string message;
  uint64_t retry_after_us = 0;  // of an error; 0: it does not say
  uint32_t piece = 0;
  bool last = false;
  std::vector<std::pair<uint32_t, uint32_t>> failures;  // (position, code)
  std::vector<uint32_t> checksums;
  uint64_t rows_bytes = 0;  // they are the message's last bytes
};

// Reads a message of `message_bytes` up to its rows, of which `data` [size] are the first bytes,
// and returns how many bytes those were: rows_bytes bytes of rows, and nothing else, follow. 0:
// `size` bytes are too few, come again with more. InvalidArgument: not protobuf, a wrong wire type,
// a field that is cut off or oversized, or one behind the rows. `response` is reused as in
// DecodeStreamRequest.
absl::StatusOr<size_t> DecodeResponseHeader(const uint8_t* data, size_t size, size_t message_bytes,
                                            StreamResponse& response);

// Bytes that EncodeAnswerHeader writes at most, failures and checksums apart; and for each failure.
inline constexpr size_t kMaxAnswerHeader = 64;
inline constexpr size_t kMaxFailureBytes = 14;

// Writes everything of an answer but the row bytes to `out`, which must hold kMaxAnswerHeader
// bytes, and those of the failures (position within the request, code) and the checksums (both may
// be none), and returns how many; exactly `rows_bytes` bytes of rows must follow directly.
size_t EncodeAnswerHeader(uint64_t request_id, uint32_t piece, bool last,
                          std::span<const std::pair<uint32_t, uint32_t>> failures,
                          std::span<const uint32_t> checksums, uint64_t rows_bytes, uint8_t* out);

// Whole messages without rows: a request's one last answer when it failed, with its RetryAfter, and
// a notice (any kind but kAnswer).
std::string EncodeErrorAnswer(uint64_t request_id, const absl::Status& status);
std::string EncodeNotice(ResponseKind kind);

}  // namespace engram

#endif  // ENGRAM_PROTO_WIRE_H_

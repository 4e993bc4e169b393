// gRPC's framing of messages within a call: one byte of compression flag, four of length.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
#ifndef ENGRAM_PROTO_GRPC_FRAMING_H_
#define ENGRAM_PROTO_GRPC_FRAMING_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

inline constexpr size_t kGrpcPrefixBytes = 5;

// The prefix of an uncompressed message.
inline void WriteGrpcPrefix(uint32_t message_bytes, uint8_t out[kGrpcPrefixBytes]) {
  out[0] = 0;
  for (int i = 0; i < 4; ++i) out[1 + i] = static_cast<uint8_t>(message_bytes >> (24 - 8 * i));
}

// The length of the message behind the prefix. InvalidArgument: it is compressed, which was not
// offered.
inline absl::StatusOr<uint32_t> ReadGrpcPrefix(const uint8_t prefix[kGrpcPrefixBytes]) {
  if (prefix[0] != 0) return absl::InvalidArgumentError("a compressed message");
  uint32_t bytes = 0;
  for (int i = 0; i < 4; ++i) bytes = bytes << 8 | prefix[1 + i];
  return bytes;
}

}  // namespace engram

#endif  // ENGRAM_PROTO_GRPC_FRAMING_H_

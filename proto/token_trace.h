// Token traces: real text as token ids, the input of benchmarks.
#ifndef ENGRAM_PROTO_TOKEN_TRACE_H_
#define ENGRAM_PROTO_TOKEN_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram {

using TokenTrace = std::vector<std::vector<uint32_t>>;  // sequences of token ids

// Reads a trace file: little-endian u32 throughout; per sequence its length, then its ids.
// InvalidArgument: a sequence is cut off, empty, or the file holds none. System codes otherwise.
absl::StatusOr<TokenTrace> ReadTokenTrace(const std::string& path);

}  // namespace engram

#endif  // ENGRAM_PROTO_TOKEN_TRACE_H_

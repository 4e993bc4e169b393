#include "proto/token_trace.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::StatusOr<TokenTrace> ReadTokenTrace(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 32;
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxBytes));
  const auto complain = [&](size_t sequence, absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("token trace ", path, ": sequence ", sequence, " ", what));
  };
  TokenTrace trace;
  for (size_t at = 0; at < bytes.size();) {
    uint32_t length = 0;
    if (bytes.size() - at < sizeof(length)) return complain(trace.size(), "is cut off");
    std::memcpy(&length, bytes.data() + at, sizeof(length));
    at += sizeof(length);
    if (length == 0) return complain(trace.size(), "is empty");
    if ((bytes.size() - at) / sizeof(uint32_t) < length)
      return complain(trace.size(), "is cut off");
    std::vector<uint32_t>& ids = trace.emplace_back(length);
    std::memcpy(ids.data(), bytes.data() + at, length * sizeof(uint32_t));
    at += length * sizeof(uint32_t);
  }
  if (trace.empty())
    return absl::InvalidArgumentError(absl::StrCat("token trace ", path, " is empty"));
  return trace;
}

}  // namespace engram

#include "service/server_options.h"

#include "absl/strings/str_cat.h"

namespace engram {

absl::Status ServerOptions::Validate() const {
  constexpr uint64_t kMaxRows = uint64_t{1} << 24;
  constexpr uint64_t kMaxBytes = uint64_t{1} << 28;
  constexpr uint64_t kHeaderBytes = 1024;
  const auto complain = [](absl::string_view option, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("server option `", option, "` ", what));
  };
  if (listen.empty()) return complain("listen", "is empty");
  if (max_rows_per_request < 1 || max_rows_per_request > kMaxRows) {
    return complain("max_rows_per_request", absl::StrCat("is not in [1, ", kMaxRows, "]"));
  }
  if (max_request_bytes < max_rows_per_request * sizeof(uint64_t) + kHeaderBytes ||
      max_request_bytes > kMaxBytes) {
    return complain("max_request_bytes",
                    absl::StrCat("is ", max_request_bytes, "; ", max_rows_per_request, " ids need ",
                                 max_rows_per_request * sizeof(uint64_t) + kHeaderBytes,
                                 ", at most ", kMaxBytes, " are accepted"));
  }
  if (max_requests_in_flight < 1) return complain("max_requests_in_flight", "is 0");
  if (threads > 1024) return complain("threads", "is more than 1024");
  if (spin < absl::ZeroDuration() || spin > absl::Seconds(1)) {
    return complain("spin", "is not between 0 and 1 second");
  }
  return security.Validate(listen);
}

}  // namespace engram

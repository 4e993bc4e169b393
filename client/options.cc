#include "client/options.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram {

absl::Status ClientOptions::Validate() const {
  const auto complain = [](absl::string_view option, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("client option `", option, "` ", what));
  };
  if (servers.empty()) return complain("servers", "names no server");
  for (size_t i = 0; i < servers.size(); ++i) {
    if (servers[i].empty()) return complain("servers", "has an empty address");
    if (std::count(servers.begin(), servers.end(), servers[i]) > 1) {
      return complain("servers", absl::StrCat("names ", servers[i], " twice"));
    }
  }
  if (connect_timeout <= absl::ZeroDuration())
    return complain("connect_timeout", "is not positive");
  if (credit_bytes == 0) return complain("credit_bytes", "is 0");
  if (rows_per_request == 0) return complain("rows_per_request", "is 0");
  if (io_threads == 0 || io_threads > 64) return complain("io_threads", "is not in [1, 64]");
  if (spin < absl::ZeroDuration()) return complain("spin", "is negative");
  return absl::OkStatus();
}

}  // namespace engram

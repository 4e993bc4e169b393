#include "client/options.h"

#include <sched.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/socket.h"

namespace engram {

absl::Status ClientOptions::Validate() const {
  const auto complain = [](absl::string_view option, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("client option `", option, "` ", what));
  };
  if (servers.empty()) return complain("servers", "names no server");
  for (size_t i = 0; i < servers.size(); ++i) {
    const absl::Status address = CheckAddress(servers[i]);
    if (!address.ok()) return complain("servers", absl::StrCat("is wrong: ", address.message()));
    if (std::count(servers.begin(), servers.end(), servers[i]) > 1) {
      return complain("servers", absl::StrCat("names ", servers[i], " twice"));
    }
  }
  if (connect_timeout <= absl::ZeroDuration())
    return complain("connect_timeout", "is not positive");
  if (follow_interval <= absl::ZeroDuration()) {
    return complain("follow_interval", "is not positive");
  }
  if (follow_generations && expect_digest.has_value()) {
    return complain("follow_generations", "is set, and so is `expect_digest`");
  }
  if (resolve_interval <= absl::ZeroDuration()) {
    return complain("resolve_interval", "is not positive");
  }
  if (!(verify_share >= 0 && verify_share <= 1))
    return complain("verify_share", "is not in [0, 1]");
  if (!(hedge_share >= 0 && hedge_share <= 1)) return complain("hedge_share", "is not in [0, 1]");
  if (hedge_after_least < absl::ZeroDuration()) return complain("hedge_after_least", "is negative");
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return complain("cpus", absl::StrCat("names core ", cpu));
  }
  if (credit_bytes == 0) return complain("credit_bytes", "is 0");
  if (rows_per_request == 0) return complain("rows_per_request", "is 0");
  if (io_threads == 0 || io_threads > 64) return complain("io_threads", "is not in [1, 64]");
  if (!hot_ngrams.empty() && cache_bytes == 0) {
    return complain("hot_ngrams", "is given, but `cache_bytes` is 0");
  }
  if (spin < absl::ZeroDuration()) return complain("spin", "is negative");
  const absl::Status status = credentials.Validate();
  return status.ok() ? status : complain("credentials", absl::StrCat("has ", status.message()));
}

}  // namespace engram

#include "deploy/sizing/costs.h"

#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram::sizing {
namespace {

constexpr double kMaxCost = 1e9;  // a second a row: nobody's

}  // namespace

double PrefillWireShare(uint64_t tokens) {
  const double n = static_cast<double>(tokens);
  if (n < kWireShares[0].tokens) return 1;
  for (size_t i = 1; i < std::size(kWireShares); ++i) {
    const WireShare& low = kWireShares[i - 1];
    const WireShare& high = kWireShares[i];
    if (n > high.tokens) continue;
    const double way = std::log(n / low.tokens) / std::log(high.tokens / low.tokens);
    return low.share + way * (high.share - low.share);
  }
  return std::rbegin(kWireShares)->share;
}

Costs Costs::WithTls() const {
  Costs costs = *this;
  costs.server_request_us *= kTlsServerFactor;
  costs.server_row_ns *= kTlsServerFactor;
  costs.client_request_us *= kTlsClientFactor;
  costs.client_row_ns *= kTlsClientFactor;
  return costs;
}

absl::Status Costs::Validate() const {
  const std::pair<const char*, double> all[] = {{"--request-us", server_request_us},
                                                {"--row-ns", server_row_ns},
                                                {"--client-request-us", client_request_us},
                                                {"--client-row-ns", client_row_ns},
                                                {"--lookup-us", lookup_us}};
  for (const auto& [flag, value] : all) {
    if (value >= 0 && value <= kMaxCost) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", value, " is not between 0 and ", kMaxCost));
  }
  if (server_request_us + server_row_ns == 0) {
    return absl::InvalidArgumentError("--request-us and --row-ns are both 0: servers cost nothing");
  }
  return absl::OkStatus();
}

absl::Status Network::Validate() const {
  if (!(nic_gbit > 0 && nic_gbit <= 1e6)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--nic-gbit ", nic_gbit, " is not above 0 and at most 1000000"));
  }
  if (!(rtt_us >= 0 && rtt_us <= 1e7)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rtt-us ", rtt_us, " is not between 0 and 10000000"));
  }
  return absl::OkStatus();
}

}  // namespace engram::sizing

#ifndef ENGRAM_TESTS_BENCH_OVERLAP_LINK_PROBE_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_LINK_PROBE_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

// Measures what TCP gets over a link: a round trip of 64 bytes, both ends sleeping, and the rate of
// one connection from the far side to this one.
class LinkProbe {
 public:
  using OnFarSide = std::function<absl::Status(const std::function<void()>&)>;

  // `far` runs work where `address` is.
  LinkProbe(std::string address, OnFarSide far)
      : address_(std::move(address)), far_(std::move(far)) {}

  // {"rtt_us_p50", "rtt_us_p99", "gb_per_s"}; takes under a second.
  absl::StatusOr<nlohmann::json> Measure() const;

 private:
  const std::string address_;
  const OnFarSide far_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_LINK_PROBE_H_

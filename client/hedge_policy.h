// When a request that has no answer yet is sent to a second server.
#ifndef ENGRAM_CLIENT_HEDGE_POLICY_H_
#define ENGRAM_CLIENT_HEDGE_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace engram {

// Hedged requests (Dean and Barroso, "The Tail at Scale", 2013): the delay is what answers of that
// size take on all servers, mean plus four mean deviations (the estimate of TCP's retransmission
// timer, RFC 6298), so that a slow server is late by the others' measure. A budget keeps second
// requests to a share of the first ones: a fleet that is slow as a whole must not get twice the
// work. Pure; not thread-safe.
class HedgePolicy {
 public:
  // `share`: second requests per first one, 0: never. `least`: no delay is below it.
  HedgePolicy(double share, absl::Duration least) : share_(share), least_(least) {}

  // A first request has left.
  void OnRequest() { tokens_ = tokens_ + share_ < kBurst ? tokens_ + share_ : kBurst; }
  // A request of `rows` rows was answered.
  void OnAnswer(size_t rows, absl::Duration took);

  // Infinite while too little is known.
  absl::Duration Delay(size_t rows) const;

  // Takes a second request from the budget; false: there is none left.
  bool Spend();

 private:
  static constexpr double kBurst = 16;
  static constexpr uint32_t kEnoughAnswers = 8;

  struct Estimate {  // seconds
    double mean = 0;
    double deviation = 0;
    uint32_t answers = 0;
  };
  // By the binary logarithm of the rows.
  static size_t BucketOf(size_t rows);

  const double share_;
  const absl::Duration least_;
  double tokens_ = kBurst;
  std::array<Estimate, 33> estimates_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_HEDGE_POLICY_H_

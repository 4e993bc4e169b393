// When a request that has no answer yet is sent to a second server.
#ifndef ENGRAM_CLIENT_HEDGING_H_
#define ENGRAM_CLIENT_HEDGING_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace engram {

// How long one server's answers take, by their size. Pure; not thread-safe.
class AnswerTimes {
 public:
  // A request of `rows` rows was answered.
  void OnAnswer(size_t rows, absl::Duration took);

  // An answer of that size that takes longer is late: mean plus four mean deviations (the estimate
  // of TCP's retransmission timer, RFC 6298). Infinite while too little is known.
  absl::Duration LateAfter(size_t rows) const;

 private:
  static constexpr uint32_t kEnoughAnswers = 4;

  struct Estimate {  // seconds
    double mean = 0;
    double deviation = 0;
    uint32_t answers = 0;
  };
  // By the binary logarithm of the rows.
  static size_t BucketOf(size_t rows);

  std::array<Estimate, 33> estimates_;
};

// Keeps second requests to a share of the first ones (Dean and Barroso, "The Tail at Scale", 2013):
// a fleet that is slow, or has no room, as a whole must not get twice the work. Pure; not
// thread-safe.
class SecondRequestBudget {
 public:
  // `share`: second requests per first one, 0: never.
  explicit SecondRequestBudget(double share) : share_(share) {}

  // A first request has left.
  void OnRequest() { tokens_ = tokens_ + share_ < kBurst ? tokens_ + share_ : kBurst; }

  // Takes a second request from the budget; false: there is none left.
  bool Spend();

 private:
  static constexpr double kBurst = 16;

  const double share_;
  double tokens_ = kBurst;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_HEDGING_H_

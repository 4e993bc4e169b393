// Whether a server is to be asked while others hold the same rows.
#ifndef ENGRAM_CLIENT_SERVER_HEALTH_H_
#define ENGRAM_CLIENT_SERVER_HEALTH_H_

#include <cstdint>

#include "absl/time/time.h"

namespace engram {

// Three strikes in a row (a failure, or an answer that comes late by the measure of the others) put
// a server aside for a second, then two, up to thirty. After that it is on probation: it gets
// trials, copies of requests that others answer. Five answers in time, one after the other, bring
// it back; a strike puts it aside again. Pure; not thread-safe.
class ServerHealth {
 public:
  static constexpr uint32_t kStrikes = 3;
  static constexpr uint32_t kTrials = 5;
  static constexpr absl::Duration kFirstEjection = absl::Seconds(1);
  static constexpr absl::Duration kLastEjection = absl::Seconds(30);

  enum class State { kHealthy, kEjected, kProbation };
  State state(absl::Time now) const {
    if (!ejected_) return State::kHealthy;
    return now < until_ ? State::kEjected : State::kProbation;
  }

  bool healthy() const { return !ejected_; }

  // An answer in time.
  void OnSuccess(absl::Time now);
  // True: this has put it aside.
  bool OnStrike(absl::Time now);

 private:
  uint32_t strikes_ = 0;  // in a row
  uint32_t trials_ = 0;   // in a row, passed
  bool ejected_ = false;
  absl::Time until_;
  absl::Duration next_ = kFirstEjection;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SERVER_HEALTH_H_

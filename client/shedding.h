// What is not asked of a server because no answer would come in time.
#ifndef ENGRAM_CLIENT_SHEDDING_H_
#define ENGRAM_CLIENT_SHEDDING_H_

#include <cstdint>

#include "absl/time/time.h"

namespace engram {

// A queue that is served in its order answers nothing in time once it is longer than what it serves
// may take: each answer comes when nobody waits for it any more. What would come too late is
// therefore not asked for, so that there is time for the rest. Of one lane. Pure; not thread-safe.
//
// How long an answer takes goes by the bytes of answers outstanding, and nothing is refused before
// some have been late: a server that stood still for a moment has a bad measure, and no overload.
class Shedding {
 public:
  // Something was answered `took` after it was sent, `bytes` of answers being outstanding then, its
  // own included.
  void OnAnswer(uint64_t bytes, absl::Duration took);
  // Something was answered, or still waited, after its time.
  void OnMiss(absl::Time now) { until_ = now + kLasts; }

  // How much more time than `left` an answer should have that comes behind others, `bytes`
  // together; zero: ask for it.
  absl::Duration Missing(uint64_t bytes, absl::Duration left, absl::Time now);

 private:
  // Answers that few bytes are outstanding before are never too late by this measure.
  static constexpr uint64_t kFewBytes = 1 << 20;
  // So long after the last miss, or the last that was refused, there is overload.
  static constexpr absl::Duration kLasts = absl::Seconds(1);
  // Time to have, of what answers take in the mean.
  static constexpr double kSpare = 1.5;

  double seconds_per_byte_ = 0;  // 0: not known
  absl::Time until_ = absl::InfinitePast();
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SHEDDING_H_

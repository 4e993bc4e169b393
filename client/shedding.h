// What is not asked of a server because no answer would come in time.
#ifndef ENGRAM_CLIENT_SHEDDING_H_
#define ENGRAM_CLIENT_SHEDDING_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace engram {

// A queue that is served in its order answers nothing in time once it is longer than what it serves
// may take: each answer comes when nobody waits for it any more. What would come too late is
// therefore not asked for, so that there is time for the rest. Of one lane. Pure; not thread-safe.
//
// Nothing is refused before something has been late. Then
// - what would wait for others of this client is asked for if it comes in time by how long answers
//   take, which goes by the bytes outstanding;
// - what would wait for none tells how long answers take now, and is asked for. Where that is late
//   as well, twice in a row, other clients ask for too much: the next one is not asked for before a
//   while, twice as long each time. Once may be a server that stood still.
// A server that knows of all of them says itself when to ask again (service/backlog.h); nothing is
// asked for before.
class Shedding {
 public:
  // Something was answered `took` after it was sent, `bytes` of answers being outstanding then, its
  // own included.
  void OnAnswer(uint64_t bytes, absl::Duration took);
  // Something was answered, or still waited, after its time: no sooner than `took` after it was
  // sent, `before` bytes of answers being outstanding before its own, `bytes`.
  void OnMiss(uint64_t before, uint64_t bytes, absl::Duration took, absl::Time now);
  // The same of what was never sent.
  void OnMiss(absl::Time now);
  // The server has no room, and says after what time to ask again.
  void OnRefused(absl::Duration after, absl::Time now);

  // How much more time than `left` an answer of `bytes` should have that comes behind `before`
  // others, or when to ask for it; zero: now.
  absl::Duration Missing(uint64_t before, uint64_t bytes, absl::Duration left, absl::Time now);

 private:
  // Answers that few bytes are outstanding before are never too late by this measure.
  static constexpr uint64_t kFewBytes = 1 << 20;
  // So long after the last miss, or the last that was refused, there is overload.
  static constexpr absl::Duration kLasts = absl::Seconds(1);
  static constexpr absl::Duration kShortestPause = absl::Milliseconds(250);
  static constexpr int kMostMisses = 5;  // that count: a pause of two seconds
  // Time to have, of what answers take in the mean.
  static constexpr double kSpare = 1.5;

  void Learn(uint64_t bytes, absl::Duration took);
  void Extend(absl::Time from) { until_ = std::max(until_, from + kLasts); }

  double seconds_per_byte_ = 0;  // 0: not known
  absl::Time until_ = absl::InfinitePast();
  int alone_misses_ = 0;  // less what was answered since
  absl::Time resume_ = absl::InfinitePast();
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SHEDDING_H_

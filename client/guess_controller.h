// How much guessing may cost, and whether it is worth that.
#ifndef ENGRAM_CLIENT_GUESS_CONTROLLER_H_
#define ENGRAM_CLIENT_GUESS_CONTROLLER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace engram {

struct GuessBounds {
  // Bytes of guessed rows: of all sequences of a step together, and of a second.
  uint64_t bytes_per_step = 0;
  uint64_t bytes_per_second = 0;
  // Guessing stops where 10^6 bytes of guesses spare fewer tokens their fetch; 0: never.
  double least_hits_per_mb = 0;
};

// Stops guessing where hits per byte fall under the bound, over about kWindow steps. While it is
// stopped, every kProbeEvery-th step is guessed and nothing fetched: what that would have hit, and
// cost, is the probe, and a probe costs no bytes. Where that is well above the bound guessing
// starts again, but not within kPause: guesses that are right and never come in time cost no more
// than a window of steps a pause.
//
// Deterministic: time is passed in. Not thread-safe.
class GuessController {
 public:
  static constexpr int kWindow = 64;  // steps
  static constexpr int kProbeEvery = 8;
  static constexpr double kStartsAt = 1.25;  // times the bound
  static constexpr absl::Duration kPause = absl::Seconds(1);

  explicit GuessController(const GuessBounds& bounds)
      : bounds_(bounds), left_(static_cast<double>(bounds.bytes_per_second)) {}

  // Whether the next step is to be guessed. Once a step.
  bool Wanted();
  // What it may spend. 0: stopped, or the second's bytes are spent.
  uint64_t Allowance(absl::Time now);
  // So many of the bytes allowed are asked for.
  void Spend(uint64_t bytes) { left_ -= static_cast<double>(bytes); }

  // A step's tokens have come: `bytes` were spent on guessing them, or would have been while it was
  // stopped; `hits` of them were spared their fetch. True: it has stopped or started.
  bool Learn(uint64_t bytes, uint64_t hits, absl::Time now);

  bool on() const { return on_; }

 private:
  const GuessBounds bounds_;
  bool on_ = true;
  double hits_ = 0, bytes_ = 0;  // of about the last kWindow steps since it has stopped or started
  int steps_ = 0;                // since it has stopped or started, up to kWindow
  int skipped_ = 0;
  absl::Time stopped_ = absl::InfinitePast();
  double left_;  // bytes
  absl::Time refilled_ = absl::InfinitePast();
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_GUESS_CONTROLLER_H_

#include "client/guess_controller.h"

#include <algorithm>

namespace engram {

uint64_t GuessController::Allowance(absl::Time now) {
  const auto most = static_cast<double>(bounds_.bytes_per_second);
  if (now > refilled_) {
    if (refilled_ != absl::InfinitePast()) {
      left_ = std::min(most, left_ + most * absl::ToDoubleSeconds(now - refilled_));
    }
    refilled_ = now;
  }
  if (!on_ || left_ <= 0) return 0;
  return std::min(bounds_.bytes_per_step, static_cast<uint64_t>(left_));
}

bool GuessController::Wanted() {
  if (on_) return true;
  skipped_ = (skipped_ + 1) % kProbeEvery;
  return skipped_ == 0;
}

bool GuessController::Learn(uint64_t bytes, uint64_t hits, absl::Time now) {
  if (bytes == 0) return false;  // Nothing was guessed: that says nothing.
  constexpr double kKept = 1 - 1.0 / kWindow;
  hits_ = kKept * hits_ + static_cast<double>(hits);
  bytes_ = kKept * bytes_ + static_cast<double>(bytes);
  steps_ = std::min(steps_ + 1, kWindow);
  if (steps_ < kWindow / 2) return false;
  const double bound = bounds_.least_hits_per_mb * bytes_ / 1e6;
  const bool turn = on_ ? hits_ < bound : hits_ > kStartsAt * bound && now >= stopped_ + kPause;
  if (!turn) return false;
  on_ = !on_;
  hits_ = bytes_ = 0;
  steps_ = 0;
  if (!on_) stopped_ = now;
  return true;
}

}  // namespace engram

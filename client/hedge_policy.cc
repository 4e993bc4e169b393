#include "client/hedge_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace engram {

size_t HedgePolicy::BucketOf(size_t rows) {
  return static_cast<size_t>(std::bit_width(std::min<uint64_t>(rows, UINT32_MAX)));
}

void HedgePolicy::OnAnswer(size_t rows, absl::Duration took) {
  Estimate& estimate = estimates_[BucketOf(rows)];
  const double seconds = absl::ToDoubleSeconds(took);
  if (estimate.answers++ == 0) {
    estimate.mean = seconds;
    estimate.deviation = seconds / 2;
    return;
  }
  estimate.answers = std::min(estimate.answers, kEnoughAnswers);
  estimate.deviation += (std::abs(seconds - estimate.mean) - estimate.deviation) / 4;
  estimate.mean += (seconds - estimate.mean) / 8;
}

absl::Duration HedgePolicy::Delay(size_t rows) const {
  const Estimate& estimate = estimates_[BucketOf(rows)];
  if (share_ <= 0 || estimate.answers < kEnoughAnswers) return absl::InfiniteDuration();
  return std::max(least_, absl::Seconds(estimate.mean + 4 * estimate.deviation));
}

bool HedgePolicy::Spend() {
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

}  // namespace engram

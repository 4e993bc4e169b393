#include "client/hedging.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace engram {

size_t AnswerTimes::BucketOf(size_t rows) {
  return static_cast<size_t>(std::bit_width(std::min<uint64_t>(rows, UINT32_MAX)));
}

void AnswerTimes::OnAnswer(size_t rows, absl::Duration took) {
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

absl::Duration AnswerTimes::LateAfter(size_t rows) const {
  const Estimate& estimate = estimates_[BucketOf(rows)];
  if (estimate.answers < kEnoughAnswers) return absl::InfiniteDuration();
  return absl::Seconds(estimate.mean + 4 * estimate.deviation);
}

bool SecondRequestBudget::Spend() {
  if (share_ <= 0 || tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

}  // namespace engram

#include "client/shedding.h"

namespace engram {

void Shedding::OnAnswer(uint64_t bytes, absl::Duration took) {
  alone_misses_ = std::max(0, alone_misses_ - 1);
  Learn(bytes, took);
}

// Few bytes take longer, a byte, than many: they tell that it is faster than was thought, never
// that it is slower.
void Shedding::Learn(uint64_t bytes, absl::Duration took) {
  if (bytes == 0) return;
  const double sample = absl::ToDoubleSeconds(took) / static_cast<double>(bytes);
  if (sample > seconds_per_byte_ && bytes < kFewBytes) return;
  seconds_per_byte_ += seconds_per_byte_ == 0 ? sample : (sample - seconds_per_byte_) / 4;
}

void Shedding::OnMiss(absl::Time now) {
  if (now >= until_) alone_misses_ = 0;
  Extend(now);
}

void Shedding::OnMiss(uint64_t before, uint64_t bytes, absl::Duration took, absl::Time now) {
  OnMiss(now);
  Learn(before + bytes, took);  // It would have taken no less.
  if (before != 0) return;
  alone_misses_ = std::min(alone_misses_ + 1, kMostMisses);
  if (alone_misses_ > 1) resume_ = now + kShortestPause * (1 << (alone_misses_ - 2));
  Extend(std::max(now, resume_));
}

void Shedding::OnRefused(absl::Duration after, absl::Time now) {
  resume_ = std::max(resume_, now + after);
  Extend(resume_);
}

absl::Duration Shedding::Missing(uint64_t before, uint64_t bytes, absl::Duration left,
                                 absl::Time now) {
  if (now >= until_) return absl::ZeroDuration();
  absl::Duration missing = resume_ - now;
  if (before != 0 && before + bytes > kFewBytes) {
    const double needed = seconds_per_byte_ * static_cast<double>(before + bytes) * kSpare;
    missing = std::max(missing, absl::Seconds(needed) - left);
  }
  if (missing <= absl::ZeroDuration()) return absl::ZeroDuration();
  Extend(now);
  return missing;
}

}  // namespace engram

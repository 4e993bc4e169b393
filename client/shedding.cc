#include "client/shedding.h"

namespace engram {

// Few bytes take longer, a byte, than many: they tell that it is faster than was thought, never
// that it is slower.
void Shedding::OnAnswer(uint64_t bytes, absl::Duration took) {
  if (bytes == 0) return;
  const double sample = absl::ToDoubleSeconds(took) / static_cast<double>(bytes);
  if (sample > seconds_per_byte_ && bytes < kFewBytes) return;
  seconds_per_byte_ += seconds_per_byte_ == 0 ? sample : (sample - seconds_per_byte_) / 4;
}

absl::Duration Shedding::Missing(uint64_t bytes, absl::Duration left, absl::Time now) {
  if (now >= until_ || bytes <= kFewBytes) return absl::ZeroDuration();
  const double needed = seconds_per_byte_ * static_cast<double>(bytes) * kSpare;
  const absl::Duration missing = absl::Seconds(needed) - left;
  if (missing <= absl::ZeroDuration()) return absl::ZeroDuration();
  until_ = now + kLasts;
  return missing;
}

}  // namespace engram

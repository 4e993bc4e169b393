#include "deploy/sizing/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace engram::sizing {

// Below 2^kBits a bucket each; above, the exponent and the kBits bits behind the leading one.
size_t LatencyHistogram::BucketOf(int64_t ns) {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 0));
  if (value < (1u << kBits)) return value;
  const auto exponent = static_cast<size_t>(std::bit_width(value)) - 1 - kBits;
  return (exponent << kBits) + (value >> exponent);
}

int64_t LatencyHistogram::UpperEnd(size_t bucket) {
  if (bucket < (2u << kBits)) return static_cast<int64_t>(bucket);
  const size_t exponent = (bucket >> kBits) - 1;
  const uint64_t leading = bucket - (exponent << kBits);
  return static_cast<int64_t>(((leading + 1) << exponent) - 1);
}

void LatencyHistogram::Add(int64_t ns) {
  ++counts_[BucketOf(ns)];
  ++count_;
  max_ns_ = std::max(max_ns_, ns);
  sum_ns_ += static_cast<double>(ns);
}

int64_t LatencyHistogram::Percentile(double share) const {
  const double rank = std::max(1.0, std::ceil(share * static_cast<double>(count_)));
  uint64_t below = 0;
  for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    below += counts_[bucket];
    if (static_cast<double>(below) >= rank) return std::min(UpperEnd(bucket), max_ns_);
  }
  return max_ns_;
}

}  // namespace engram::sizing

// Times, for percentiles of many millions of them.
#ifndef ENGRAM_DEPLOY_SIZING_LATENCY_HISTOGRAM_H_
#define ENGRAM_DEPLOY_SIZING_LATENCY_HISTOGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace engram::sizing {

// Buckets of a 64th of a power of two: what is read is at most 1.6 % above what was added. Of 0 to
// 2^62 ns. Not thread-safe.
class LatencyHistogram {
 public:
  void Add(int64_t ns);

  uint64_t count() const { return count_; }
  int64_t max_ns() const { return max_ns_; }
  double mean_ns() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_); }
  // The upper end of the bucket in which the value of that rank lies (nearest rank), at most the
  // greatest value; 0 of none. 0 < share <= 1.
  int64_t Percentile(double share) const;

 private:
  static constexpr size_t kBits = 6;
  static size_t BucketOf(int64_t ns);
  static int64_t UpperEnd(size_t bucket);

  std::array<uint64_t, 64 << kBits> counts_{};
  uint64_t count_ = 0;
  int64_t max_ns_ = 0;
  double sum_ns_ = 0;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_LATENCY_HISTOGRAM_H_

// Counts and histograms that cost next to nothing to keep: relaxed atomics, no locks.
#ifndef ENGRAM_PROTO_BASE_COUNTERS_H_
#define ENGRAM_PROTO_BASE_COUNTERS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace engram {

// Written by one thread, read by any.
class Count {
 public:
  void Add(uint64_t count) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void Subtract(uint64_t count) { Add(~count + 1); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Written and read by any thread.
class SharedCount {
 public:
  void Add(uint64_t count) { value_.fetch_add(count, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// What histograms have counted, added up. A reader may see an observation in part.
struct HistogramCounts {
  std::vector<uint64_t> buckets;  // one a bound, and one beyond them; not cumulative
  uint64_t sum = 0;               // in the unit of the bounds

  uint64_t count() const {
    uint64_t total = 0;
    for (const uint64_t each : buckets) total += each;
    return total;
  }
};

// `kBounds`: an array of static storage, ascending; a bucket holds what is at or below its bound.
template <const auto& kBounds, typename Counter = Count>
class Histogram {
 public:
  void Observe(uint64_t value) {
    const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), value);
    buckets_[static_cast<size_t>(bound - kBounds.begin())].Add(1);
    sum_.Add(value);
  }
  // Of nanoseconds. Negative ones, which a clock that is set gives, are 0.
  void Observe(absl::Duration duration) {
    Observe(static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Nanoseconds(duration))));
  }
  void AddTo(HistogramCounts& counts) const {
    counts.buckets.resize(buckets_.size());
    for (size_t i = 0; i < buckets_.size(); ++i) counts.buckets[i] += buckets_[i].value();
    counts.sum += sum_.value();
  }

 private:
  std::array<Counter, kBounds.size() + 1> buckets_;
  Counter sum_;
};

// Nanoseconds, for requests that take microseconds.
inline constexpr std::array<uint64_t, 24> kLatencyBounds = {
    10'000,    15'000,     20'000,     30'000,     40'000,      60'000,
    80'000,    100'000,    150'000,    200'000,    300'000,     400'000,
    600'000,   800'000,    1'000'000,  1'500'000,  2'000'000,   3'000'000,
    5'000'000, 10'000'000, 25'000'000, 50'000'000, 100'000'000, 1'000'000'000};
// Nanoseconds, for calls that are few.
inline constexpr std::array<uint64_t, 6> kCallBounds = {100'000,     1'000'000,     10'000'000,
                                                        100'000'000, 1'000'000'000, 10'000'000'000};
inline constexpr std::array<uint64_t, 10> kRowBounds = {1,   4,    16,   64,    256,
                                                        512, 1024, 4096, 16384, 65536};

using LatencyHistogram = Histogram<kLatencyBounds>;
using SharedLatencyHistogram = Histogram<kLatencyBounds, SharedCount>;
using CallHistogram = Histogram<kCallBounds>;
using RowHistogram = Histogram<kRowBounds>;

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_COUNTERS_H_

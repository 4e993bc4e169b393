// What is said of several runs of the same thing.
#ifndef ENGRAM_TESTS_BENCH_STATISTICS_H_
#define ENGRAM_TESTS_BENCH_STATISTICS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace engram::bench {

// Of at least one value.
inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// The value below which `share` of the values lie (nearest rank). Of at least one value.
inline double Percentile(std::vector<double> values, double share) {
  const double rank = std::ceil(share * static_cast<double>(values.size())) - 1;
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max(rank, 0.0));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_STATISTICS_H_

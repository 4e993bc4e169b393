// What is said of several runs of the same thing.
#ifndef ENGRAM_TESTS_BENCH_STATISTICS_H_
#define ENGRAM_TESTS_BENCH_STATISTICS_H_

#include <algorithm>
#include <vector>

namespace engram::bench {

// Of at least one value.
inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_STATISTICS_H_

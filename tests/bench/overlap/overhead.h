// How much longer one variant's steps take than another's, and how sure that is.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_OVERHEAD_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_OVERHEAD_H_

#include <vector>

namespace engram::bench {

struct Overhead {
  double value = 0;
  double low = 0;  // 95 % confidence interval
  double high = 0;
};

// (median of `measured` - median of `base`) / median of `base`. Element i of both is of the same
// round, so that rounds are drawn as pairs (bootstrap, percentiles, a fixed seed). At least one
// round; both of the same size.
Overhead OverheadOf(const std::vector<double>& measured, const std::vector<double>& base);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_OVERHEAD_H_

#include "tests/bench/overlap/overhead.h"

#include <random>

#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

constexpr int kResamples = 2000;

double OfMedians(const std::vector<double>& measured, const std::vector<double>& base) {
  return Median(measured) / Median(base) - 1;
}

}  // namespace

Overhead OverheadOf(const std::vector<double>& measured, const std::vector<double>& base) {
  std::mt19937_64 random(1);
  std::uniform_int_distribution<size_t> round(0, base.size() - 1);
  std::vector<double> overheads;
  std::vector<double> drawn_measured(base.size());
  std::vector<double> drawn_base(base.size());
  for (int i = 0; i < kResamples; ++i) {
    for (size_t k = 0; k < base.size(); ++k) {
      const size_t pair = round(random);
      drawn_measured[k] = measured[pair];
      drawn_base[k] = base[pair];
    }
    overheads.push_back(OfMedians(drawn_measured, drawn_base));
  }
  return {OfMedians(measured, base), Percentile(overheads, 0.025), Percentile(overheads, 0.975)};
}

}  // namespace engram::bench

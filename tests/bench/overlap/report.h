// What is said of a measured shape.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_REPORT_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_REPORT_H_

#include "nlohmann/json.hpp"
#include "tests/bench/overlap/measurement.h"

namespace engram::bench {

// One element of "shapes": tests/bench/README.md says what its fields mean.
nlohmann::json ReportOf(const Measurement& measurement);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_REPORT_H_

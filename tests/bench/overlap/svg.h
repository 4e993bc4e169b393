// A picture of steps as they were measured.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_SVG_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_SVG_H_

#include <string>

#include "tests/bench/overlap/measurement.h"

namespace engram::bench {

// One step of each variant that brings rows (the one whose length is the median), above each other
// on one time axis: the model's layers, and for each table when its rows were asked for, when they
// were in place, when the layer wanted them, and in red what it stood still. Left the whole step,
// right its begin enlarged, where the first table is. An SVG document.
std::string DrawTimeline(const Measurement& measurement);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_SVG_H_

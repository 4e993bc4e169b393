#ifndef ENGRAM_TESTS_BENCH_MICRO_OVERLAY_H_
#define ENGRAM_TESTS_BENCH_MICRO_OVERLAY_H_

namespace engram {

// Gathers beside and through a delta of which 1 % of the rows are changed.
void RegisterOverlay();

}  // namespace engram

#endif  // ENGRAM_TESTS_BENCH_MICRO_OVERLAY_H_

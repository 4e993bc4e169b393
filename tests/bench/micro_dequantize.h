#ifndef ENGRAM_TESTS_BENCH_MICRO_DEQUANTIZE_H_
#define ENGRAM_TESTS_BENCH_MICRO_DEQUANTIZE_H_

namespace engram {

// Registers the benchmarks of dequantizing rows, by each kind of vector instructions.
void RegisterDequantize();

}  // namespace engram

#endif  // ENGRAM_TESTS_BENCH_MICRO_DEQUANTIZE_H_

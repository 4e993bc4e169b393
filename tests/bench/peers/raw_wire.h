// What the bare TCP pair says to each other: the least that a batch lookup can do with.
#ifndef ENGRAM_TESTS_BENCH_PEERS_RAW_WIRE_H_
#define ENGRAM_TESTS_BENCH_PEERS_RAW_WIRE_H_

#include <cstdint>

namespace engram::bench {

// Before the ids (u32 each) of a request, and before the rows of its answer. Answers come in the
// order of requests. Native byte order: both are this machine.
struct RawHeader {
  uint32_t rows = 0;
  uint32_t zero = 0;
};

inline constexpr uint32_t kRawMaxRows = 65536;

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_RAW_WIRE_H_

// What the micro-benchmarks share.
#ifndef ENGRAM_TESTS_BENCH_MICRO_H_
#define ENGRAM_TESTS_BENCH_MICRO_H_

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/geometry.h"

namespace engram {

inline constexpr uint32_t kMicroLayer = 1;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "error: " << value.status() << "\n";
  std::exit(1);
}

inline void CountRows(benchmark::State& state, size_t rows) {
  state.counters["rows"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(rows),
                         benchmark::Counter::kIsRate);
}

// V4.1-Flash's geometry.
inline const Geometry& FullGeometry() {
  static const auto* geometry = [] {
    GeometryParams params;
    params.layer_ids = {kMicroLayer};
    params.max_ngram = 4;
    params.heads = 8;
    params.bucket_floors.assign(3, 16'000'000);
    params.compressed_vocab = 99092;
    return new Geometry(OrDie(Geometry::Derive(params)));
  }();
  return *geometry;
}

inline std::vector<int64_t> RandomRows(uint64_t rows, size_t count) {
  std::mt19937_64 random(1);
  std::vector<int64_t> ids(count);
  for (int64_t& id : ids) id = static_cast<int64_t>(random() % rows);
  return ids;
}

// Memory of the given size, touched; on huge pages or not.
class Block {
 public:
  Block(size_t bytes, bool huge) : bytes_(bytes + (2 << 20)) {
    memory_ = static_cast<uint8_t*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory_ == MAP_FAILED) std::abort();
    madvise(memory_, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    const auto address = reinterpret_cast<uintptr_t>(memory_);
    data_ = reinterpret_cast<uint8_t*>((address + (2 << 20) - 1) & ~uintptr_t{(2 << 20) - 1});
    std::memset(data_, 1, bytes);
  }
  ~Block() { munmap(memory_, bytes_); }
  Block(const Block&) = delete;

  uint8_t* data() { return data_; }

 private:
  const size_t bytes_;
  uint8_t* memory_;
  uint8_t* data_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_BENCH_MICRO_H_

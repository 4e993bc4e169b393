// fp8 rows -> bf16 or f32, by each kind of vector instructions. Internal to dequantize.cc.
//
// In all of them a value is first a bf16 word whose exponent is too small by what its scale has yet
// to add: e4m3 has fewer bits than bf16, so both hold it exactly, and f32 is that word before 16
// zero bits. That is all as long as every finite result is a normal number, which holds for scales
// from kLowScale to kHighScale; blocks of other scales go value by value (CarefulBlock).
#ifndef ENGRAM_CLIENT_DEQUANTIZE_FP8_H_
#define ENGRAM_CLIENT_DEQUANTIZE_FP8_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

inline constexpr size_t kFp8Block = 32;  // values of one scale
// e4m3 goes from 2^-9 to 1.75 x 2^8. At kLowScale the smallest value's exponent field is 2: words
// begin there, with e4m3's own exponent plus 4, so that what a scale adds is never negative.
inline constexpr uint8_t kLowScale = 11;
inline constexpr uint8_t kHighScale = 246;

struct Fp8Rows {
  const uint8_t* values;
  size_t value_stride;  // bytes from one row to the next
  const uint8_t* scales;
  size_t scale_stride;
  size_t row_values;  // of a row; scale i is that of [32 i, 32 i + 32), the last of what is left
  size_t rows;
};

inline bool IsPlainScale(uint8_t scale) { return scale >= kLowScale && scale <= kHighScale; }

// The f32 (its bits) of one value, whatever its scale.
uint32_t F32BitsOfFp8(uint8_t value, uint8_t scale);

// `count` values of one scale to `out` [count] of uint16_t (bf16) or uint32_t (f32), any alignment.
template <typename Out>
void CarefulBlock(const uint8_t* values, uint8_t scale, size_t count, uint8_t* out);

// Row after row to `out` [rows, row_values] of Out, any alignment.
template <typename Out>
void Fp8RowsPortable(const Fp8Rows& rows, uint8_t* out);
#if defined(__x86_64__)
template <typename Out>
ENGRAM_TARGET_AVX2 void Fp8RowsAvx2(const Fp8Rows& rows, uint8_t* out);
// Beside what Isa::kAvx512 promises it needs VBMI (Ice Lake, Zen 4).
#define ENGRAM_TARGET_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))
template <typename Out>
ENGRAM_TARGET_VBMI void Fp8RowsAvx512Vbmi(const Fp8Rows& rows, uint8_t* out);
#endif

}  // namespace engram

#endif  // ENGRAM_CLIENT_DEQUANTIZE_FP8_H_

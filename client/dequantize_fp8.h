// fp8 rows -> bf16 or f32. Internal to dequantize.cc.
#ifndef ENGRAM_CLIENT_DEQUANTIZE_FP8_H_
#define ENGRAM_CLIENT_DEQUANTIZE_FP8_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

inline constexpr size_t kFp8Block = 32;  // values of one scale

struct Fp8Rows {
  const uint8_t* values;
  size_t value_stride;  // bytes from one row to the next
  const uint8_t* scales;
  size_t scale_stride;
  size_t row_values;  // of a row; scale i is that of [32 i, 32 i + 32), the last of what is left
  size_t rows;
};

// To `out` [rows, row_values] of uint16_t (bf16) or uint32_t (f32), any alignment.
template <typename Out>
void ConvertFp8Rows(const Fp8Rows& rows, uint8_t* out, Isa isa);

// `count` values of one scale to `out` [count], one by one.
template <typename Out>
void ConvertFp8Values(const uint8_t* values, uint8_t scale, size_t count, uint8_t* out);

}  // namespace engram

#endif  // ENGRAM_CLIENT_DEQUANTIZE_FP8_H_

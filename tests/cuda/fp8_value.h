// One fp8 value and its scale to bf16, for kernels and for the host that checks them.
#ifndef ENGRAM_TESTS_CUDA_FP8_VALUE_H_
#define ENGRAM_TESTS_CUDA_FP8_VALUE_H_

#include <cstdint>

#if defined(__CUDACC__)
#define ENGRAM_HOST_DEVICE __host__ __device__
#else
#define ENGRAM_HOST_DEVICE
#endif

namespace engram {

// The bits of value x 2^(scale - 127), to nearest even. Unlike kernels that put the scale byte into
// f32's exponent field it knows that scale 0 is 2^-127 and 255 is NaN, and it flushes nothing.
ENGRAM_HOST_DEVICE inline uint16_t Bf16OfFp8(uint8_t value, uint8_t scale) {
  const unsigned sign = (value & 0x80u) << 8;
  const unsigned magnitude = value & 0x7fu;
  if (magnitude == 0x7f || scale == 255) return 0x7fc0;
  if (magnitude == 0) return static_cast<uint16_t>(sign);
  // As fraction x 2^exponent / 8 with 8 <= fraction < 16.
  unsigned fraction = magnitude & 7;
  int exponent = static_cast<int>(magnitude >> 3) - 7;
  if (magnitude >= 8) {
    fraction += 8;
  } else {
    for (exponent = -6; fraction < 8; fraction <<= 1) --exponent;
  }
  const int field = exponent + scale;
  if (field >= 255) return static_cast<uint16_t>(sign | 0x7f80);
  if (field > 0) {
    return static_cast<uint16_t>(sign | static_cast<unsigned>(field) << 7 | (fraction & 7) << 4);
  }
  // Subnormal: eighths of 2^field become 2^-7 of 2^1, so that shifting may drop bits.
  const unsigned wide = fraction << 4;
  const unsigned shift = static_cast<unsigned>(1 - field);
  const unsigned kept = wide >> shift, dropped = wide & ((1u << shift) - 1);
  const unsigned half = 1u << (shift - 1);
  const unsigned up = dropped > half || (dropped == half && (kept & 1) != 0) ? 1 : 0;
  return static_cast<uint16_t>(sign | (kept + up));
}

}  // namespace engram

#endif  // ENGRAM_TESTS_CUDA_FP8_VALUE_H_

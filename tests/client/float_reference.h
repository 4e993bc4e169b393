// What numbers are, slowly: by ldexp and double arithmetic from the formats' definitions, with
// nothing of the code under test. Only right while the process's floating point is as it starts.
#ifndef ENGRAM_TESTS_CLIENT_FLOAT_REFERENCE_H_
#define ENGRAM_TESTS_CLIENT_FLOAT_REFERENCE_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace engram {

// A binary format of 1 + exponent_bits + fraction_bits bits, IEEE but for e4m3, which has no
// infinity and one NaN.
inline double ValueOfBits(uint32_t bits, int exponent_bits, int fraction_bits, bool e4m3) {
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const uint32_t exponent_mask = (1u << exponent_bits) - 1;
  const uint32_t exponent = bits >> fraction_bits & exponent_mask;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) & 1 ? -1.0 : 1.0;
  const bool all_ones = exponent == exponent_mask;
  if (e4m3 ? all_ones && fraction == 7 : all_ones && fraction != 0) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (all_ones && !e4m3) return sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1u << fraction_bits) + fraction,
                           static_cast<int>(exponent) - bias - fraction_bits);
}

inline double ValueOfE4m3(uint8_t bits) { return ValueOfBits(bits, 4, 3, true); }
inline double ValueOfF16(uint16_t bits) { return ValueOfBits(bits, 5, 10, false); }
inline double ValueOfBf16(uint16_t bits) { return ValueOfBits(bits, 8, 7, false); }
inline double ValueOfScale(uint8_t scale) {
  return scale == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, scale - 127);
}

// The nearest number with `fraction_bits` below its leading bit in f32's range of exponents, ties
// to even; infinity above.
inline double Rounded(double value, int fraction_bits) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent;
  std::frexp(value, &exponent);  // in [0.5, 1) x 2^exponent
  const double step = std::ldexp(1.0, std::max(exponent - 1, -126) - fraction_bits);
  const double rounded = std::nearbyint(value / step) * step;
  return std::abs(rounded) >= std::ldexp(1.0, 128)
             ? std::copysign(std::numeric_limits<double>::infinity(), value)
             : rounded;
}

// The bits of a number; of NaN some NaN.
inline uint32_t F32Bits(double value) {
  return std::bit_cast<uint32_t>(static_cast<float>(Rounded(value, 23)));
}
inline uint16_t Bf16Bits(double value) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(Rounded(value, 7)));
  return static_cast<uint16_t>(bits >> 16);  // exact: it has no more bits
}

inline bool IsNan(uint32_t f32) { return (f32 & 0x7fffffff) > 0x7f800000; }
inline bool IsNan(uint16_t bf16) { return (bf16 & 0x7fff) > 0x7f80; }

}  // namespace engram

#endif  // ENGRAM_TESTS_CLIENT_FLOAT_REFERENCE_H_

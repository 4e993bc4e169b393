// Blocks of 32 fp8 values by each kind of vector instructions. Internal to dequantize_fp8.cc.
//
// In all of them a value is first a bf16 word whose exponent is too small by what its scale has yet
// to add: e4m3 has fewer bits than bf16, so both hold it exactly, and f32 is that word before 16
// zero bits. That is all as long as every result but zeros and NaNs is a normal number, which holds
// for plain scales. Loops do not stop for others: what they make of those is done anew afterwards
// (but for zeros, which are right at any scale but NaN's), so that constants stay in registers.
#ifndef ENGRAM_CLIENT_DEQUANTIZE_BLOCKS_H_
#define ENGRAM_CLIENT_DEQUANTIZE_BLOCKS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "client/dequantize_fp8.h"
#include "proto/base/isa.h"

namespace engram {

// e4m3 goes from 2^-9 to 1.75 x 2^8: below, results are subnormal for f32, above they overflow.
// (One more at the low end would do, but for what ConvertBlocksVbmi gives it words.)
inline constexpr uint8_t kLowScale = 11;
inline constexpr uint8_t kHighScale = 246;
inline constexpr bool IsPlainScale(uint8_t scale) {
  return scale >= kLowScale && scale <= kHighScale;
}

// What a scale adds to words whose exponent is too small by it less `kBias`, in both halves; the
// lowest bit says that it is not plain. A table, for a vector is filled by a load alone.
inline constexpr uint32_t kOddScale = 1;
template <int kBias>
inline constexpr auto kScaleAdds = [] {
  std::array<uint32_t, 256> adds{};
  for (int scale = 0; scale < 256; ++scale) {
    const auto add = static_cast<uint16_t>((scale - kBias) * 128);
    adds[static_cast<size_t>(scale)] =
        add * 0x10001u | (IsPlainScale(static_cast<uint8_t>(scale)) ? 0 : kOddScale);
  }
  return adds;
}();
inline constexpr int kE4m3Bias = 7;  // for words with e4m3's own exponent

// Every whole block of every row; what a row has left is not touched. False if some scale was not
// plain.
template <typename Out>
bool ConvertBlocksPortable(const Fp8Rows& rows, uint8_t* out);
#if defined(__x86_64__)
template <typename Out>
ENGRAM_TARGET_AVX2 bool ConvertBlocksAvx2(const Fp8Rows& rows, uint8_t* out);
// Beside what Isa::kAvx512 promises it needs VBMI (Ice Lake, Zen 4).
#define ENGRAM_TARGET_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))
template <typename Out>
ENGRAM_TARGET_VBMI bool ConvertBlocksVbmi(const Fp8Rows& rows, uint8_t* out);
#endif

}  // namespace engram

#endif  // ENGRAM_CLIENT_DEQUANTIZE_BLOCKS_H_

#include "client/dequantize_fp8.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "client/dequantize_blocks.h"
#include "client/dequantize_float.h"

namespace engram {
namespace {

constexpr uint32_t kNan = 0x7fc00000;
constexpr uint32_t kInfinity = 0x7f800000;
constexpr uint8_t kScaleNan = 255;
// Values until blocks of odd scales are done anew: they are still in the core's first cache.
constexpr size_t kValuesAtOnce = 8192;

template <typename Out>
Out OfF32Bits(uint32_t bits) {
  if constexpr (sizeof(Out) == 4) {
    return bits;
  } else {
    return Bf16OfF32Bits(bits);
  }
}

// The f32 (its bits) of one value, whatever its scale.
uint32_t F32BitsOf(uint8_t value, uint8_t scale) {
  const uint32_t sign = uint32_t{value} >> 7 << 31;
  const uint32_t magnitude = value & 0x7f;
  if (magnitude == 0x7f || scale == kScaleNan) return kNan;
  if (magnitude == 0) return sign;
  // As 1.fraction x 2^exponent: subnormal are those below 8, eighths of 2^-6.
  int exponent = static_cast<int>(magnitude >> 3) - 7;
  uint32_t fraction = magnitude & 7;
  if (magnitude < 8) {
    const int top = static_cast<int>(std::bit_width(fraction)) - 1;
    exponent = top - 9;
    fraction = fraction << (3 - top) & 7;
  }
  const int field = exponent + scale;  // f32's bias is that of scales
  if (field >= 255) return sign | kInfinity;
  if (field > 0) return sign | static_cast<uint32_t>(field) << 23 | fraction << 20;
  return sign | (1u << 23 | fraction << 20) >> (1 - field);  // at most 10: no bit is lost
}

template <typename Out>
bool ConvertBlocks(const Fp8Rows& rows, uint8_t* out, Isa isa) {
#if defined(__x86_64__)
  static const bool has_vbmi = __builtin_cpu_supports("avx512vbmi") != 0;
  if (isa == Isa::kAvx512 && has_vbmi) return ConvertBlocksVbmi<Out>(rows, out);
  if (isa != Isa::kPortable) return ConvertBlocksAvx2<Out>(rows, out);
#endif
  (void)isa;
  return ConvertBlocksPortable<Out>(rows, out);
}

bool IsZero(const uint8_t* block) {
  uint64_t words[kFp8Block / sizeof(uint64_t)];
  std::memcpy(words, block, kFp8Block);
  return (words[0] | words[1] | words[2] | words[3]) == 0;
}

// Those blocks of a row that are wrong because their scale is not plain.
template <typename Out>
void ConvertOddBlocks(const uint8_t* values, const uint8_t* scales, size_t blocks, uint8_t* out) {
  for (size_t block = 0; block < blocks; ++block, values += kFp8Block) {
    if (IsPlainScale(scales[block])) continue;
    // Rows that nobody has are zeros with zeros for scales.
    if (scales[block] != kScaleNan && IsZero(values)) continue;
    ConvertFp8Values<Out>(values, scales[block], kFp8Block, out + block * kFp8Block * sizeof(Out));
  }
}

}  // namespace

template <typename Out>
void ConvertFp8Values(const uint8_t* values, uint8_t scale, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const Out value = OfF32Bits<Out>(F32BitsOf(values[i], scale));
    std::memcpy(out + i * sizeof(Out), &value, sizeof(Out));
  }
}

template <typename Out>
void ConvertFp8Rows(const Fp8Rows& rows, uint8_t* out, Isa isa) {
  const size_t at_once = std::max<size_t>(1, kValuesAtOnce / rows.row_values);
  const size_t blocks = rows.row_values / kFp8Block;
  const size_t in_blocks = blocks * kFp8Block;
  Fp8Rows some = rows;
  for (size_t first = 0; first < rows.rows; first += some.rows) {
    some.rows = std::min(at_once, rows.rows - first);
    const bool plain = ConvertBlocks<Out>(some, out, isa);
    for (size_t row = 0; row < some.rows && (!plain || in_blocks < some.row_values); ++row) {
      const uint8_t* const values = some.values + row * some.value_stride;
      const uint8_t* const scales = some.scales + row * some.scale_stride;
      uint8_t* const to = out + row * some.row_values * sizeof(Out);
      if (!plain) ConvertOddBlocks<Out>(values, scales, blocks, to);
      if (in_blocks == some.row_values) continue;
      ConvertFp8Values<Out>(values + in_blocks, scales[blocks], some.row_values - in_blocks,
                            to + in_blocks * sizeof(Out));
    }
    some.values += some.rows * some.value_stride;
    some.scales += some.rows * some.scale_stride;
    out += some.rows * some.row_values * sizeof(Out);
  }
}

template void ConvertFp8Values<uint16_t>(const uint8_t*, uint8_t, size_t, uint8_t*);
template void ConvertFp8Values<uint32_t>(const uint8_t*, uint8_t, size_t, uint8_t*);
template void ConvertFp8Rows<uint16_t>(const Fp8Rows&, uint8_t*, Isa);
template void ConvertFp8Rows<uint32_t>(const Fp8Rows&, uint8_t*, Isa);

}  // namespace engram

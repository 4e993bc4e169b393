#include "client/dequantize_fp8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "client/dequantize_float.h"

namespace engram {
namespace {

constexpr uint32_t kNan = 0x7fc00000;
constexpr uint32_t kInfinity = 0x7f800000;
constexpr uint8_t kScaleNan = 255;

template <typename Out>
Out OfF32Bits(uint32_t bits) {
  if constexpr (sizeof(Out) == 4) {
    return bits;
  } else {
    return Bf16OfF32Bits(bits);
  }
}

// Of a value at scale 127: its bf16 word, and the bits that a scale may add to.
struct Fp8Word {
  uint16_t word;
  uint16_t adds;
};

const std::array<Fp8Word, 256>& Words() {
  static const auto words = [] {
    std::array<Fp8Word, 256> all;
    for (size_t value = 0; value < all.size(); ++value) {
      const bool special = (value & 0x7f) == 0 || (value & 0x7f) == 0x7f;
      all[value] = {static_cast<uint16_t>(F32BitsOfFp8(static_cast<uint8_t>(value), 127) >> 16),
                    static_cast<uint16_t>(special ? 0 : 0xffff)};
    }
    return all;
  }();
  return words;
}

// Neither zero nor NaN nor subnormal: these need no table.
bool AllNormal(const uint8_t* values) {
  uint8_t special = 0;
  for (size_t i = 0; i < kFp8Block; ++i) {
    const auto above = static_cast<uint8_t>((values[i] & 0x7f) - 8);
    special |= static_cast<uint8_t>(above > 0x7e - 8);
  }
  return special == 0;
}

template <typename Out>
Out OfWord(uint16_t word) {
  return static_cast<Out>(static_cast<Out>(word) << (8 * (sizeof(Out) - 2)));
}

template <typename Out>
void NormalBlock(const uint8_t* values, uint8_t scale, uint8_t* out) {
  // e4m3's exponent is biased by 7, and a scale by as much as bf16's.
  const auto add = static_cast<uint16_t>((scale - 7) << 7);
  Out block[kFp8Block];
  for (size_t i = 0; i < kFp8Block; ++i) {
    const auto word = static_cast<uint16_t>((static_cast<int8_t>(values[i]) << 4 & 0x87f0) + add);
    block[i] = OfWord<Out>(word);
  }
  std::memcpy(out, block, sizeof(block));
}

template <typename Out>
void TableBlock(const uint8_t* values, uint8_t scale, uint8_t* out) {
  const std::array<Fp8Word, 256>& words = Words();
  const auto add = static_cast<uint16_t>((scale - 127) * 128);
  Out block[kFp8Block];
  for (size_t i = 0; i < kFp8Block; ++i) {
    const Fp8Word entry = words[values[i]];
    block[i] = OfWord<Out>(static_cast<uint16_t>(entry.word + (add & entry.adds)));
  }
  std::memcpy(out, block, sizeof(block));
}

}  // namespace

uint32_t F32BitsOfFp8(uint8_t value, uint8_t scale) {
  const uint32_t sign = uint32_t{value} >> 7 << 31;
  const uint32_t magnitude = value & 0x7f;
  if (magnitude == 0x7f || scale == kScaleNan) return kNan;
  if (magnitude == 0) return sign;
  // As 1.fraction x 2^exponent: subnormal are those below 8, eighths of 2^-6.
  int exponent = static_cast<int>(magnitude >> 3) - 7;
  uint32_t fraction = magnitude & 7;
  if (magnitude < 8) {
    const int top = std::bit_width(fraction) - 1;
    exponent = top - 9;
    fraction = fraction << (3 - top) & 7;
  }
  const int field = exponent + scale;  // f32's bias is that of scales
  if (field >= 255) return sign | kInfinity;
  if (field > 0) return sign | static_cast<uint32_t>(field) << 23 | fraction << 20;
  return sign | (1u << 23 | fraction << 20) >> (1 - field);  // at most 10: no bit is lost
}

template <typename Out>
void CarefulBlock(const uint8_t* values, uint8_t scale, size_t count, uint8_t* out) {
  // Rows that nobody has are zeros with zeros for scales.
  if (scale != kScaleNan && std::all_of(values, values + count, [](uint8_t v) { return v == 0; })) {
    std::memset(out, 0, count * sizeof(Out));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const Out value = OfF32Bits<Out>(F32BitsOfFp8(values[i], scale));
    std::memcpy(out + i * sizeof(Out), &value, sizeof(Out));
  }
}

template <typename Out>
void Fp8RowsPortable(const Fp8Rows& rows, uint8_t* out) {
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* values = rows.values + row * rows.value_stride;
    const uint8_t* scale = rows.scales + row * rows.scale_stride;
    size_t left = rows.row_values;
    for (; left >= kFp8Block; left -= kFp8Block, values += kFp8Block, ++scale) {
      if (!IsPlainScale(*scale)) {
        CarefulBlock<Out>(values, *scale, kFp8Block, out);
      } else if (AllNormal(values)) {
        NormalBlock<Out>(values, *scale, out);
      } else {
        TableBlock<Out>(values, *scale, out);
      }
      out += kFp8Block * sizeof(Out);
    }
    if (left > 0) CarefulBlock<Out>(values, *scale, left, out);
    out += left * sizeof(Out);
  }
}

template void CarefulBlock<uint16_t>(const uint8_t*, uint8_t, size_t, uint8_t*);
template void CarefulBlock<uint32_t>(const uint8_t*, uint8_t, size_t, uint8_t*);
template void Fp8RowsPortable<uint16_t>(const Fp8Rows&, uint8_t*);
template void Fp8RowsPortable<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram

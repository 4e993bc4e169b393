// Loops without jumps, of which the compiler makes what vector instructions the build allows.
#include <cstring>

#include "client/dequantize_blocks.h"

namespace engram {
namespace {

// Neither zero nor NaN nor subnormal.
bool AllNormal(const uint8_t* values) {
  uint8_t special = 0;
  for (size_t i = 0; i < kFp8Block; ++i) {
    const auto above = static_cast<uint8_t>((values[i] & 0x7f) - 8);
    special |= static_cast<uint8_t>(above > 0x7e - 8);
  }
  return special == 0;
}

uint16_t MaskIf(bool is) { return static_cast<uint16_t>(0 - is); }

// Words without their scale, modulo 2^16: it brings those below zero back.
uint16_t NormalWord(uint8_t value) {
  return static_cast<uint16_t>(static_cast<int8_t>(value) << 4 & 0x87f0);
}

// With their scale: zeros and NaNs take none.
uint16_t AnyWord(uint8_t value, uint16_t add) {
  const uint16_t magnitude = value & 0x7f;
  // Subnormals are 1, 2 and 3, or 4 to 7, of 2^-9.
  const uint16_t from_4 = MaskIf(magnitude >= 4);
  const auto below_4 = static_cast<uint16_t>((magnitude << 6) - (2 << 7));
  const auto below_8 = static_cast<uint16_t>((magnitude << 5) - (1 << 7));
  const auto one = static_cast<uint16_t>(MaskIf(magnitude == 1) & 1 << 6);
  const auto subnormal = static_cast<uint16_t>(((below_4 & ~from_4) | (below_8 & from_4)) - one);
  const uint16_t is_normal = MaskIf(magnitude >= 8);
  const auto normal = static_cast<uint16_t>(magnitude << 4);
  const auto finite =
      static_cast<uint16_t>(((subnormal & ~is_normal) | (normal & is_normal)) + add);
  const auto not_zero = static_cast<uint16_t>(finite & MaskIf(magnitude != 0));
  const auto nan = static_cast<uint16_t>(MaskIf(magnitude == 0x7f) & 0x7fc0);
  return static_cast<uint16_t>(not_zero | nan | (value & 0x80) << 8);
}

template <typename Out>
Out OfWord(uint16_t word) {
  return static_cast<Out>(static_cast<Out>(word) << (8 * (sizeof(Out) - 2)));
}

}  // namespace

template <typename Out>
bool ConvertBlocksPortable(const Fp8Rows& rows, uint8_t* out) {
  uint32_t adds = 0;
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* values = rows.values + row * rows.value_stride;
    const uint8_t* const scales = rows.scales + row * rows.scale_stride;
    uint8_t* to = out + row * rows.row_values * sizeof(Out);
    for (size_t block = 0; block < rows.row_values / kFp8Block; ++block) {
      adds |= kScaleAdds<kE4m3Bias>[scales[block]];
      const auto add = static_cast<uint16_t>((scales[block] - kE4m3Bias) * 128);
      Out made[kFp8Block];
      if (AllNormal(values)) {
        for (size_t i = 0; i < kFp8Block; ++i) {
          made[i] = OfWord<Out>(static_cast<uint16_t>(NormalWord(values[i]) + add));
        }
      } else {
        for (size_t i = 0; i < kFp8Block; ++i) made[i] = OfWord<Out>(AnyWord(values[i], add));
      }
      std::memcpy(to, made, sizeof(made));
      to += sizeof(made);
      values += kFp8Block;
    }
  }
  return (adds & kOddScale) == 0;
}

template bool ConvertBlocksPortable<uint16_t>(const Fp8Rows&, uint8_t*);
template bool ConvertBlocksPortable<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram

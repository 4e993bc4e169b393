#include "storage/row_field.h"

#include <algorithm>
#include <cstring>

namespace engram {
namespace {

// A width that the compiler knows copies in a few vector moves.
template <size_t kBytes>
void Scatter(const uint8_t* from, size_t count, size_t row_bytes, uint8_t* to) {
  for (size_t i = 0; i < count; ++i) std::memcpy(to + i * row_bytes, from + i * kBytes, kBytes);
}

}  // namespace

std::optional<uint8_t> Ue8m0FromF32(uint32_t bits) {
  constexpr uint32_t kMantissaBits = 23;
  constexpr uint32_t kTwoToMinus127 = uint32_t{1} << 22;  // the one subnormal that ue8m0 holds
  if (bits == kTwoToMinus127) return uint8_t{0};
  const uint32_t exponent = bits >> kMantissaBits;  // with the sign, which must be 0
  const bool power = bits == exponent << kMantissaBits;
  if (!power || exponent == 0 || exponent > 254) return std::nullopt;
  return static_cast<uint8_t>(exponent);
}

size_t PieceOf(const RowField& field, uint64_t row) {
  const auto after =
      std::upper_bound(field.pieces.begin(), field.pieces.end(), row,
                       [](uint64_t value, const TensorPiece& p) { return value < p.first_row; });
  // Of pieces that start at one row all but the last are empty.
  return static_cast<size_t>(after - field.pieces.begin()) - 1;
}

bool ConvertF32Scales(const uint8_t* from, size_t count, uint8_t* to, size_t& bad) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i * sizeof(bits), sizeof(bits));
    const std::optional<uint8_t> scale = Ue8m0FromF32(bits);
    if (!scale.has_value()) {
      bad = i;
      return false;
    }
    to[i] = *scale;
  }
  return true;
}

void ScatterField(const RowField& field, const uint8_t* from, size_t count, size_t row_bytes,
                  uint8_t* rows) {
  uint8_t* const to = rows + field.row_offset;
  switch (field.row_bytes) {
    case 8:
      return Scatter<8>(from, count, row_bytes, to);
    case 256:
      return Scatter<256>(from, count, row_bytes, to);
    default:
      for (size_t i = 0; i < count; ++i) {
        std::memcpy(to + i * row_bytes, from + i * field.row_bytes, field.row_bytes);
      }
  }
}

}  // namespace engram

#include "storage/synth_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace engram {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;
constexpr uint64_t kOnes = 0x0101010101010101;

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// Makes every value of a word finite.
uint64_t Finite(ValueType type, uint64_t word) {
  switch (type) {
    case ValueType::kFp8E4M3:
      // Bit 7 of (b & 0x7F) + 1 is set for 0x7F and 0xFF alone: those bytes lose their lowest bit.
      return word ^ ((((word & (kOnes * 0x7F)) + kOnes) >> 7) & kOnes);
    case ValueType::kBf16:
    case ValueType::kF16:
      return word & 0xBFFFBFFFBFFFBFFF;
    case ValueType::kF32:
      return word & 0xBFFFFFFFBFFFFFFF;
  }
  return word;
}

}  // namespace

void SynthRow(const RowLayout& layout, uint64_t seed, uint32_t layer, uint64_t row,
              std::span<uint8_t> out) {
  uint64_t counter = Mix(Mix(Mix(seed + kGamma) + layer + kGamma) + row + kGamma);
  const size_t value_bytes = layout.value_bytes();
  for (size_t at = 0; at < out.size(); at += sizeof(counter)) {
    counter += kGamma;
    const uint64_t word = Finite(layout.value_type, Mix(counter));
    std::memcpy(&out[at], &word, std::min(sizeof(word), out.size() - at));
    if (at + sizeof(word) <= value_bytes) continue;
    const uint64_t scales = Mix(counter);  // Those bytes of it that are scales.
    for (size_t i = std::max(at, value_bytes); i < std::min(at + sizeof(word), out.size()); ++i) {
      out[i] = static_cast<uint8_t>(118 + (scales >> (8 * (i - at)) & 15));
    }
  }
}

void SynthRow(uint64_t seed, uint32_t layer, uint64_t row, uint8_t out[kSynthRowBytes]) {
  SynthRow(PackedFp8Layout(256), seed, layer, row, std::span<uint8_t>(out, kSynthRowBytes));
}

std::vector<uint64_t> StatedRows(const LayerGeometry& layer) {
  constexpr uint64_t kEvery = uint64_t{1} << 19;
  std::vector<uint64_t> rows = {layer.rows - 1};
  for (const HashColumn& column : layer.columns) {
    rows.push_back(column.offset);
    rows.push_back(column.offset + column.prime - 1);
  }
  for (uint64_t row = 0; row < layer.rows; row += kEvery) rows.push_back(row);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

}  // namespace engram

// The rows of synthetic tables: what their bytes are, and which of them a sparse table holds.
#ifndef ENGRAM_STORAGE_SYNTH_ROWS_H_
#define ENGRAM_STORAGE_SYNTH_ROWS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "proto/geometry.h"
#include "proto/row_layout.h"

namespace engram {

// Bytes of a synthetic row of DeepSeek-V4.1-Flash: 256 fp8 e4m3 values, then 8 ue8m0 scales.
inline constexpr uint32_t kSynthRowBytes = 264;

// Writes row `row` (global within its layer) of the layer with id `layer`, as it is served, to
// `out` [layout.row_bytes()].
//
// All arithmetic is modulo 2^64, with G = 0x9E3779B97F4A7C15 and SplitMix64's finalizer
//   mix(x): x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
//           x ^= x >> 31
//   key     = mix(mix(mix(seed + G) + layer + G) + row + G)
//   word[i] = mix(key + (i + 1) * G), i = 0, 1, ...
// Bytes 8 i .. 8 i + 7 of the row are word[i], little-endian, changed so that every value is
// finite:
//   fp8_e4m3      a byte that would be NaN loses its lowest bit: 0x7F becomes 0x7E, 0xFF 0xFE
//   bf16, f16     bit 14 of every value (the exponent's highest) is cleared
//   f32           bit 30 likewise
//   ue8m0 scales  byte b becomes 118 + (b & 15)
// In numpy, for one row of V4.1:
//   words = mix(key + np.arange(1, 34, dtype=np.uint64) * G)
//   row = words.astype("<u8").view(np.uint8)
//   row[:256] -= (row[:256] & 0x7F) == 0x7F
//   row[256:] = 118 + (row[256:] & 15)
void SynthRow(const RowLayout& layout, uint64_t seed, uint32_t layer, uint64_t row,
              std::span<uint8_t> out);

// The same of V4.1-Flash's layout.
void SynthRow(uint64_t seed, uint32_t layer, uint64_t row, uint8_t out[kSynthRowBytes]);

// The rows that a sparse table holds, ascending; all others are zeros: the first and the last row
// of every hash column and of the layer, and every row whose id is a multiple of 2^19 (of
// V4.1-Flash's rows even one of 512 shards then holds some).
std::vector<uint64_t> StatedRows(const LayerGeometry& layer);

}  // namespace engram

#endif  // ENGRAM_STORAGE_SYNTH_ROWS_H_

// Rows as they are served -> bf16 or f32, for consumers on the CPU.
//
// A value of an fp8 row is value x 2^(scale - 127), exact in f32; rows without scales are converted
// as they are. Scale 255 and e4m3's 0x7F and 0xFF are NaN, scale 0 is 2^-127, overflow is infinity,
// zeros keep their sign, nothing is flushed to zero, f32 -> bf16 rounds to nearest even; a NaN
// stays one, its sign and payload are unspecified. All of it is integer arithmetic: what the
// process has set for its floating point (flush to zero, rounding) changes nothing.
#ifndef ENGRAM_CLIENT_DEQUANTIZE_H_
#define ENGRAM_CLIENT_DEQUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "proto/base/isa.h"
#include "proto/row_layout.h"

namespace engram {

// `packed` [rows, row_bytes], as tickets and slots hold them, to `out` [rows, values] of `type`,
// kBf16 or kF32, little-endian; both dense and row-major, at any alignment, without overlap. Pure;
// safe from any number of threads. `isa` must be one of SupportedIsas().
// InvalidArgument, and `out` is as it was: another `type`; a layout that is not valid, or scales
// beside values that are not fp8; sizes that are not exactly those (named); `out` overlaps the
// rows.
absl::Status DequantizeRows(const RowLayout& layout, size_t rows, std::span<const uint8_t> packed,
                            ValueType type, std::span<uint8_t> out, Isa isa = BestIsa());

// The same of a slot with split_scales: `values` [rows, value_bytes], `scales` [rows, scales].
absl::Status DequantizeSplitRows(const RowLayout& layout, size_t rows,
                                 std::span<const uint8_t> values, std::span<const uint8_t> scales,
                                 ValueType type, std::span<uint8_t> out, Isa isa = BestIsa());

}  // namespace engram

#endif  // ENGRAM_CLIENT_DEQUANTIZE_H_

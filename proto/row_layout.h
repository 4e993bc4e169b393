// How the bytes of one served row are laid out.
#ifndef ENGRAM_PROTO_ROW_LAYOUT_H_
#define ENGRAM_PROTO_ROW_LAYOUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

enum class ValueType : uint8_t { kFp8E4M3 = 1, kBf16 = 2, kF16 = 3, kF32 = 4 };
enum class ScaleType : uint8_t { kNone = 0, kUe8m0 = 1 };

// A row as it is served and as GPU consumers take it: `values` values, little-endian, then
// `scales` scale bytes, scale i for the values [i * values / scales, (i + 1) * values / scales).
// It says nothing of how a checkpoint's file spells the same row.
struct RowLayout {
  ValueType value_type = ValueType::kFp8E4M3;
  uint32_t values = 0;
  ScaleType scale_type = ScaleType::kNone;
  uint32_t scales = 0;

  uint32_t value_bytes() const;  // Bytes of the values of one row.
  uint32_t row_bytes() const { return value_bytes() + scales; }

  // InvalidArgument: no values, more than 65,536 of them, scales without a type or the reverse, or
  // scales that do not divide the values.
  absl::Status Validate() const;

  bool operator==(const RowLayout&) const = default;
};

// DeepSeek-V4.1's packed row: `head_dim` fp8 e4m3 values, one ue8m0 scale per 32 of them (264 bytes
// for head_dim 256).
RowLayout PackedFp8Layout(uint32_t head_dim);

absl::string_view ValueTypeName(ValueType type);  // "fp8_e4m3", "bf16", "f16", "f32"
absl::string_view ScaleTypeName(ScaleType type);  // "none", "ue8m0"

}  // namespace engram

#endif  // ENGRAM_PROTO_ROW_LAYOUT_H_

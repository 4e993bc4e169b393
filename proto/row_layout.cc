#include "proto/row_layout.h"

#include "absl/strings/str_cat.h"

namespace engram {

uint32_t RowLayout::value_bytes() const {
  switch (value_type) {
    case ValueType::kFp8E4M3:
      return values;
    case ValueType::kBf16:
    case ValueType::kF16:
      return values * 2;
    case ValueType::kF32:
      return values * 4;
  }
  return 0;
}

absl::Status RowLayout::Validate() const {
  if (ValueTypeName(value_type) == "unknown" || ScaleTypeName(scale_type) == "unknown") {
    return absl::InvalidArgumentError("row layout has an unknown value or scale type");
  }
  if (values == 0 || values > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat("row layout has ", values, " values, expected 1 to 65536"));
  }
  if ((scale_type == ScaleType::kNone) != (scales == 0) || (scales != 0 && values % scales != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("row layout has ", scales, " scales of type ",
                                                   ScaleTypeName(scale_type), " for ", values,
                                                   " values"));
  }
  return absl::OkStatus();
}

RowLayout PackedFp8Layout(uint32_t head_dim) {
  return {ValueType::kFp8E4M3, head_dim, ScaleType::kUe8m0, head_dim / 32};
}

absl::string_view ValueTypeName(ValueType type) {
  switch (type) {
    case ValueType::kFp8E4M3:
      return "fp8_e4m3";
    case ValueType::kBf16:
      return "bf16";
    case ValueType::kF16:
      return "f16";
    case ValueType::kF32:
      return "f32";
  }
  return "unknown";
}

absl::string_view ScaleTypeName(ScaleType type) {
  switch (type) {
    case ScaleType::kNone:
      return "none";
    case ScaleType::kUe8m0:
      return "ue8m0";
  }
  return "unknown";
}

}  // namespace engram

#include "client/fusion/fusion_input.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/dequantize.h"
#include "client/dequantize_float.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

size_t BytesOf(ValueType type) { return type == ValueType::kF32 ? 4 : 2; }

absl::Status CheckCount(absl::string_view what, size_t has, size_t expected,
                        absl::string_view shape) {
  if (has == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", what, "` has ", has, ", expected ", expected, ": ", shape));
}

absl::Status CheckSizes(const FusionShape& shape, const FusionTokens& tokens,
                        const HiddenStates& hidden, std::span<const float> gates) {
  // Far beyond any memory, and products of it with a shape's sizes do not wrap.
  constexpr size_t kMostPositions = size_t{1} << 32;
  const size_t positions = tokens.sequences * tokens.tokens;
  if (tokens.sequences > kMostPositions || tokens.tokens > kMostPositions ||
      positions > kMostPositions) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokens.sequences, " sequences of ", tokens.tokens, " tokens are too many"));
  }
  const std::string of = absl::StrCat("[", tokens.sequences, ", ", tokens.tokens);
  RETURN_IF_ERROR(CheckCount(
      "rows", tokens.rows.size(), positions * shape.columns * shape.row.row_bytes(),
      absl::StrCat(of, ", ", shape.columns, "] rows of ", shape.row.row_bytes(), " bytes")));
  if (!tokens.dead.empty()) {
    RETURN_IF_ERROR(CheckCount("dead", tokens.dead.size(), positions, absl::StrCat(of, "] flags")));
  }
  if (hidden.type != ValueType::kF32 && hidden.type != ValueType::kBf16) {
    return absl::InvalidArgumentError(absl::StrCat("`hidden` is of ", ValueTypeName(hidden.type),
                                                   "; hidden states are f32 or bf16"));
  }
  RETURN_IF_ERROR(CheckCount("hidden", hidden.bytes.size(),
                             positions * shape.branches * shape.hidden * BytesOf(hidden.type),
                             absl::StrCat(of, ", ", shape.branches, ", ", shape.hidden,
                                          "] values of ", ValueTypeName(hidden.type))));
  if (reinterpret_cast<uintptr_t>(hidden.bytes.data()) % BytesOf(hidden.type) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("`hidden` is not aligned to ", BytesOf(hidden.type), " bytes"));
  }
  if (gates.empty()) return absl::OkStatus();
  return CheckCount("gates", gates.size(), positions * shape.branches,
                    absl::StrCat(of, ", ", shape.branches, "] values"));
}

absl::Status NotFinite(const FusionShape& shape, const FusionTokens& tokens, size_t position,
                       const float* values) {
  const float* const end = values + shape.width();
  const float* const bad = std::find_if(values, end, [](float v) { return !std::isfinite(v); });
  const auto index = static_cast<size_t>(bad - values);
  return absl::InvalidArgumentError(
      absl::StrCat("`rows`: ", std::isnan(*bad) ? "NaN" : "infinity", " at sequence ",
                   position / tokens.tokens, ", token ", position % tokens.tokens, ", column ",
                   index / shape.row.values, ", value ", index % shape.row.values));
}

}  // namespace

absl::Status FusionShape::Validate() const {
  RETURN_IF_ERROR(row.Validate());
  switch (row.value_type) {
    case ValueType::kFp8E4M3:
      break;
    case ValueType::kBf16:
    case ValueType::kF16:
    case ValueType::kF32:
      if (row.scales == 0) break;
      return absl::InvalidArgumentError(absl::StrCat(
          "the fusion does not know rows of ", ValueTypeName(row.value_type), " with scales"));
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("the fusion does not know rows of type ", static_cast<int>(row.value_type)));
  }
  constexpr size_t kMost = size_t{1} << 20;
  const std::pair<absl::string_view, size_t> sizes[] = {
      {"columns", columns}, {"hidden", hidden}, {"branches", branches}};
  for (const auto& [name, size] : sizes) {
    if (size > 0 && size <= kMost) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the fusion's `", name, "` is ", size, ", not in 1 .. ", kMost));
  }
  if (norm_eps >= 0 && std::isfinite(norm_eps)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the fusion's `norm_eps` is ", norm_eps));
}

absl::Status CheckCall(const FusionShape& shape, const FusionTokens& tokens,
                       const HiddenStates& hidden, std::span<const float> gates,
                       const Kernels& kernels, Isa isa) {
  RETURN_IF_ERROR(CheckSizes(shape, tokens, hidden, gates));
  std::vector<float> values(shape.width());
  for (size_t position = 0; position < tokens.sequences * tokens.tokens; ++position) {
    ReadRows(shape, tokens, position, 1, isa, values.data());
    if (kernels.all_finite(values.data(), values.size())) continue;
    return NotFinite(shape, tokens, position, values.data());
  }
  return absl::OkStatus();
}

void ReadRows(const FusionShape& shape, const FusionTokens& tokens, size_t first, size_t count,
              Isa isa, float* out) {
  const size_t bytes = shape.columns * shape.row.row_bytes();
  for (size_t i = 0; i < count; ++i, out += shape.width()) {
    if (IsDead(tokens, first + i)) {
      std::fill_n(out, shape.width(), 0.0f);
      continue;
    }
    const std::span<uint8_t> to(reinterpret_cast<uint8_t*>(out), shape.width() * sizeof(float));
    // Layout and sizes were checked: it cannot fail.
    (void)DequantizeRows(shape.row, shape.columns, tokens.rows.subspan((first + i) * bytes, bytes),
                         ValueType::kF32, to, isa);
  }
}

void ReadHidden(const FusionShape& shape, const HiddenStates& hidden, size_t position, Isa isa,
                float* out) {
  const size_t count = shape.branches * shape.hidden;
  ConvertFloats(hidden.type, ValueType::kF32,
                hidden.bytes.data() + position * count * BytesOf(hidden.type), count,
                reinterpret_cast<uint8_t*>(out), isa);
}

void WriteHidden(const FusionShape& shape, const float* values, size_t position, Isa isa,
                 HiddenStates& hidden) {
  const size_t count = shape.branches * shape.hidden;
  ConvertFloats(ValueType::kF32, hidden.type, reinterpret_cast<const uint8_t*>(values), count,
                hidden.bytes.data() + position * count * BytesOf(hidden.type), isa);
}

float InverseRms(const Kernels& kernels, const float* x, size_t n, float eps) {
  return 1.0f / std::sqrt(kernels.dot(x, x, n) / static_cast<float>(n) + eps);
}

float GateScore(const Kernels& kernels, const FusionShape& shape, const float* hidden,
                const float* key, const float* qk) {
  const float norms = InverseRms(kernels, hidden, shape.hidden, shape.norm_eps) *
                      InverseRms(kernels, key, shape.hidden, shape.norm_eps);
  const float score = kernels.dot3(hidden, key, qk, shape.hidden) * norms /
                      std::sqrt(static_cast<float>(shape.hidden));
  if (score == 0) return 0;
  return std::copysign(std::sqrt(std::max(std::abs(score), 1e-6f)), score);
}

}  // namespace engram

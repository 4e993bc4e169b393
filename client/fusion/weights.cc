#include "client/fusion/weights.h"

#include "absl/strings/str_cat.h"
#include "client/dequantize_float.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::Status CheckWeights(absl::string_view name, const Weights& weights, size_t rows,
                          size_t columns) {
  if (weights.type != ValueType::kF32 && weights.type != ValueType::kBf16) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`", name, "` is of ", ValueTypeName(weights.type), "; weights are f32 or bf16"));
  }
  const size_t value_bytes = weights.type == ValueType::kF32 ? 4 : 2;
  const size_t row_bytes = columns * value_bytes;
  if (weights.bytes.size() % row_bytes != 0 || weights.bytes.size() / row_bytes != rows) {
    return absl::InvalidArgumentError(absl::StrCat("`", name, "` has ", weights.bytes.size(),
                                                   " bytes, expected [", rows, ", ", columns,
                                                   "] values of ", ValueTypeName(weights.type)));
  }
  if (reinterpret_cast<uintptr_t>(weights.bytes.data()) % value_bytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", name, "` is not aligned to ", value_bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ToFloats(absl::string_view name, const Weights& weights,
                                            size_t rows, size_t columns) {
  RETURN_IF_ERROR(CheckWeights(name, weights, rows, columns));
  std::vector<float> values(rows * columns);
  ConvertFloats(weights.type, ValueType::kF32, weights.bytes.data(), values.size(),
                reinterpret_cast<uint8_t*>(values.data()), Isa::kPortable);
  return values;
}

void MatMul(const Kernels& kernels, const float* x, size_t tokens, size_t in,
            const Weights& weights, size_t out, float* y) {
  if (weights.type == ValueType::kF32) {
    kernels.matmul_f32(x, tokens, in, reinterpret_cast<const float*>(weights.bytes.data()), out, y);
  } else {
    kernels.matmul_bf16(x, tokens, in, reinterpret_cast<const uint16_t*>(weights.bytes.data()), out,
                        y);
  }
}

}  // namespace engram

// A model's numbers as its checkpoint has them.
#ifndef ENGRAM_CLIENT_FUSION_WEIGHTS_H_
#define ENGRAM_CLIENT_FUSION_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/fusion/kernels.h"
#include "proto/row_layout.h"

namespace engram {

// kF32 or kBf16, little-endian, dense, row-major, at the alignment of its type. Borrowed.
struct Weights {
  ValueType type = ValueType::kF32;
  std::span<const uint8_t> bytes = {};
};

// InvalidArgument, naming `name`: another type, not rows x columns values, or not aligned.
absl::Status CheckWeights(absl::string_view name, const Weights& weights, size_t rows,
                          size_t columns);

// The values as f32, whatever their type; CheckWeights' errors.
absl::StatusOr<std::vector<float>> ToFloats(absl::string_view name, const Weights& weights,
                                            size_t rows, size_t columns);

// y [tokens, out] = x [tokens, in] times the transpose of `weights` [out, in], which were checked.
void MatMul(const Kernels& kernels, const float* x, size_t tokens, size_t in,
            const Weights& weights, size_t out, float* y);

}  // namespace engram

#endif  // ENGRAM_CLIENT_FUSION_WEIGHTS_H_

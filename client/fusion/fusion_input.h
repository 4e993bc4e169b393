// What both fusions do with their arguments. Internal to them.
#ifndef ENGRAM_CLIENT_FUSION_FUSION_INPUT_H_
#define ENGRAM_CLIENT_FUSION_FUSION_INPUT_H_

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "client/fusion/fusion.h"

namespace engram {

// Positions that are computed at once: weights are read once for all of them.
inline constexpr size_t kFusionBlock = 32;

// All that can be wrong with a call, so that what comes after cannot fail.
absl::Status CheckCall(const FusionShape& shape, const FusionTokens& tokens,
                       const HiddenStates& hidden, std::span<const float> gates,
                       const Kernels& kernels, Isa isa);

inline bool IsDead(const FusionTokens& tokens, size_t position) {
  return !tokens.dead.empty() && tokens.dead[position] != 0;
}

// Rows of [first, first + count) of all positions to `out` [count, width]; zeros where dead.
void ReadRows(const FusionShape& shape, const FusionTokens& tokens, size_t first, size_t count,
              Isa isa, float* out);

// One position's hidden state, [branches, hidden], to f32 and back.
void ReadHidden(const FusionShape& shape, const HiddenStates& hidden, size_t position, Isa isa,
                float* out);
void WriteHidden(const FusionShape& shape, const float* values, size_t position, Isa isa,
                 HiddenStates& hidden);

// 1 / the root mean square of `x` [n].
float InverseRms(const Kernels& kernels, const float* x, size_t n, float eps);

// The gate before its sigmoid; `qk` are the norms' weights multiplied.
float GateScore(const Kernels& kernels, const FusionShape& shape, const float* hidden,
                const float* key, const float* qk);

}  // namespace engram

#endif  // ENGRAM_CLIENT_FUSION_FUSION_INPUT_H_

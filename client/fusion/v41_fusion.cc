#include <algorithm>

#include "client/fusion/fusion.h"
#include "client/fusion/fusion_input.h"
#include "proto/base/status_macros.h"

namespace engram {

V41Fusion::V41Fusion(const FusionShape& shape, const V41Weights& weights, Isa isa)
    : shape_(shape),
      wkv_(weights.wkv),
      qk_(shape.branches * shape.hidden),
      kernels_(&KernelsOf(isa)),
      isa_(isa) {}

absl::StatusOr<V41Fusion> V41Fusion::Create(const FusionShape& shape, const V41Weights& weights,
                                            Isa isa) {
  RETURN_IF_ERROR(shape.Validate());
  RETURN_IF_ERROR(
      CheckWeights("wkv", weights.wkv, (shape.branches + 1) * shape.hidden, shape.width()));
  ASSIGN_OR_RETURN(const std::vector<float> q,
                   ToFloats("q", weights.q, shape.branches, shape.hidden));
  ASSIGN_OR_RETURN(const std::vector<float> k,
                   ToFloats("k", weights.k, shape.branches, shape.hidden));
  V41Fusion fusion(shape, weights, isa);
  std::transform(q.begin(), q.end(), k.begin(), fusion.qk_.begin(), std::multiplies<>());
  return fusion;
}

absl::Status V41Fusion::Apply(const FusionTokens& tokens, HiddenStates hidden,
                              std::span<float> gates) const {
  RETURN_IF_ERROR(CheckCall(shape_, tokens, hidden, gates, *kernels_, isa_));
  const size_t branches = shape_.branches, width = shape_.hidden;
  const size_t projected = (branches + 1) * width;
  std::vector<float> rows(kFusionBlock * shape_.width()), kv(kFusionBlock * projected);
  std::vector<float> state(branches * width), gate(branches);
  const size_t positions = tokens.sequences * tokens.tokens;
  for (size_t first = 0; first < positions; first += kFusionBlock) {
    const size_t count = std::min(kFusionBlock, positions - first);
    ReadRows(shape_, tokens, first, count, isa_, rows.data());
    MatMul(*kernels_, rows.data(), count, shape_.width(), wkv_, projected, kv.data());
    for (size_t i = 0; i < count; ++i) {
      const bool dead = IsDead(tokens, first + i);
      const float* const keys = kv.data() + i * projected;
      const float* const value = keys + branches * width;
      if (!dead) {
        ReadHidden(shape_, hidden, first + i, isa_, state.data());
        for (size_t b = 0; b < branches; ++b) {
          gate[b] = GateScore(*kernels_, shape_, state.data() + b * width, keys + b * width,
                              qk_.data() + b * width);
        }
        kernels_->sigmoid(gate.data(), branches);
        for (size_t b = 0; b < branches; ++b) {
          kernels_->add_scaled(state.data() + b * width, value, gate[b], width);
        }
        WriteHidden(shape_, state.data(), first + i, isa_, hidden);
      }
      for (size_t b = 0; b < branches && !gates.empty(); ++b) {
        gates[(first + i) * branches + b] = dead ? 0 : gate[b];
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace engram

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/fusion/fusion.h"
#include "client/fusion/fusion_input.h"
#include "proto/base/status_macros.h"

namespace engram {

// What a call needs for kFusionBlock positions, and for the one that it is at.
struct PaperFusion::Block {
  explicit Block(const FusionShape& shape)
      : rows(kFusionBlock * shape.width()),
        keys(shape.branches * kFusionBlock * shape.hidden),
        values(kFusionBlock * shape.hidden),
        hidden(shape.branches * shape.hidden),
        gated(hidden.size()),
        normed(hidden.size()),
        mixed(hidden.size()),
        gate(shape.branches) {}

  std::vector<float> rows, keys, values;
  std::vector<float> hidden, gated, normed, mixed, gate;
};

ConvState::ConvState(size_t sequences, size_t positions, size_t channels)
    : sequences_(sequences),
      positions_(positions),
      channels_(channels),
      values_(sequences * positions * channels) {}

PaperFusion::PaperFusion(const PaperShape& shape, Isa isa)
    : shape_(shape), kernels_(&KernelsOf(isa)), isa_(isa) {}

absl::StatusOr<PaperFusion> PaperFusion::Create(const PaperShape& shape,
                                                const PaperWeights& weights, Isa isa) {
  RETURN_IF_ERROR(shape.Validate());
  constexpr size_t kMostTaps = 1024;
  if (shape.kernel == 0 || shape.kernel > kMostTaps || shape.dilation == 0 ||
      shape.dilation > kMostTaps) {
    return absl::InvalidArgumentError(absl::StrCat("the convolution's kernel is ", shape.kernel,
                                                   ", its dilation ", shape.dilation,
                                                   "; both are in 1 .. ", kMostTaps));
  }
  if (!(shape.conv_norm_eps >= 0) || !std::isfinite(shape.conv_norm_eps)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the fusion's `conv_norm_eps` is ", shape.conv_norm_eps));
  }
  PaperFusion fusion(shape, isa);
  RETURN_IF_ERROR(fusion.TakeWeights(weights));
  return fusion;
}

absl::Status PaperFusion::TakeWeights(const PaperWeights& weights) {
  const size_t hidden = shape_.hidden;
  if (weights.branches.size() != shape_.branches) {
    return absl::InvalidArgumentError(absl::StrCat("weights of ", weights.branches.size(),
                                                   " branches, expected ", shape_.branches));
  }
  for (size_t b = 0; b < weights.branches.size(); ++b) {
    const PaperBranch& given = weights.branches[b];
    const std::string prefix = absl::StrCat("branches[", b, "].");
    Branch branch;
    branch.key = given.key;
    RETURN_IF_ERROR(CheckWeights(prefix + "key", given.key, hidden, shape_.width()));
    ASSIGN_OR_RETURN(branch.key_bias, ToFloats(prefix + "key_bias", given.key_bias, 1, hidden));
    ASSIGN_OR_RETURN(branch.qk, ToFloats(prefix + "query_norm", given.query_norm, 1, hidden));
    ASSIGN_OR_RETURN(const std::vector<float> key_norm,
                     ToFloats(prefix + "key_norm", given.key_norm, 1, hidden));
    std::transform(branch.qk.begin(), branch.qk.end(), key_norm.begin(), branch.qk.begin(),
                   std::multiplies<>());
    ASSIGN_OR_RETURN(branch.conv_norm, ToFloats(prefix + "conv_norm", given.conv_norm, 1, hidden));
    branches_.push_back(std::move(branch));
  }
  value_ = weights.value;
  RETURN_IF_ERROR(CheckWeights("value", value_, hidden, shape_.width()));
  ASSIGN_OR_RETURN(value_bias_, ToFloats("value_bias", weights.value_bias, 1, hidden));
  const size_t channels = shape_.branches * hidden;
  ASSIGN_OR_RETURN(const std::vector<float> conv,
                   ToFloats("conv", weights.conv, channels, shape_.kernel));
  conv_.resize(conv.size());
  for (size_t tap = 0; tap < shape_.kernel; ++tap) {
    for (size_t c = 0; c < channels; ++c) {
      conv_[tap * channels + c] = conv[c * shape_.kernel + shape_.kernel - 1 - tap];
    }
  }
  return absl::OkStatus();
}

ConvState PaperFusion::NewState(size_t sequences) const {
  return {sequences, (shape_.kernel - 1) * shape_.dilation, shape_.branches * shape_.hidden};
}

// One position: `normed` [channels] and what came before it; `place` is its own in the ring, where
// the oldest position stands until it has been read.
void PaperFusion::Convolve(const float* normed, ConvState& state, size_t sequence, size_t place,
                           float* out) const {
  const size_t channels = state.channels_, positions = state.positions_;
  float* const past = state.values_.data() + sequence * positions * channels;
  std::fill_n(out, channels, 0.0f);
  for (size_t tap = shape_.kernel - 1; tap > 0; --tap) {
    const size_t at = (place + positions - tap * shape_.dilation) % positions;
    kernels_->add_product(out, past + at * channels, conv_.data() + tap * channels, channels);
  }
  kernels_->add_product(out, normed, conv_.data(), channels);
  kernels_->silu(out, channels);
  if (positions > 0) std::copy_n(normed, channels, past + place * channels);
}

// Adds the biases to a block's keys [branches, kFusionBlock, hidden] and values, and makes of
// position `at` of the block the gates, the gated values and, for the convolution, those normed.
void PaperFusion::Gate(size_t at, Block& block) const {
  const size_t width = shape_.hidden;
  float* const value = block.values.data() + at * width;
  kernels_->add(value, value_bias_.data(), width);
  for (size_t b = 0; b < branches_.size(); ++b) {
    float* const key = block.keys.data() + (b * kFusionBlock + at) * width;
    kernels_->add(key, branches_[b].key_bias.data(), width);
    block.gate[b] =
        GateScore(*kernels_, shape_, block.hidden.data() + b * width, key, branches_[b].qk.data());
  }
  kernels_->sigmoid(block.gate.data(), branches_.size());
  std::fill(block.gated.begin(), block.gated.end(), 0.0f);
  for (size_t b = 0; b < branches_.size(); ++b) {
    float* const gated = block.gated.data() + b * width;
    kernels_->add_scaled(gated, value, block.gate[b], width);
    const float norm = InverseRms(*kernels_, gated, width, shape_.conv_norm_eps);
    kernels_->scaled_product(block.normed.data() + b * width, gated, branches_[b].conv_norm.data(),
                             norm, width);
  }
}

void PaperFusion::Project(const FusionTokens& tokens, size_t first, size_t count,
                          Block& block) const {
  const size_t width = shape_.hidden;
  ReadRows(shape_, tokens, first, count, isa_, block.rows.data());
  for (size_t b = 0; b < branches_.size(); ++b) {
    MatMul(*kernels_, block.rows.data(), count, shape_.width(), branches_[b].key, width,
           block.keys.data() + b * kFusionBlock * width);
  }
  MatMul(*kernels_, block.rows.data(), count, shape_.width(), value_, width, block.values.data());
}

absl::Status PaperFusion::CheckState(const ConvState& state, size_t sequences) const {
  if (state.sequences_ != sequences) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the convolution's state is of ", state.sequences_, " sequences, the call of ", sequences));
  }
  const size_t past = (shape_.kernel - 1) * shape_.dilation;
  const size_t channels = shape_.branches * shape_.hidden;
  if (state.positions_ == past && state.channels_ == channels) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the convolution's state is of ", state.positions_, " positions of ",
                   state.channels_, " channels, the fusion's of ", past, " of ", channels));
}

absl::Status PaperFusion::Apply(const FusionTokens& tokens, HiddenStates hidden, ConvState& state,
                                std::span<float> gates) const {
  RETURN_IF_ERROR(CheckCall(shape_, tokens, hidden, gates, *kernels_, isa_));
  RETURN_IF_ERROR(CheckState(state, tokens.sequences));
  const size_t branches = shape_.branches, channels = state.channels_, past = state.positions_;
  Block block(shape_);
  const size_t positions = tokens.sequences * tokens.tokens;
  for (size_t first = 0; first < positions; first += kFusionBlock) {
    const size_t count = std::min(kFusionBlock, positions - first);
    Project(tokens, first, count, block);
    for (size_t position = first; position < first + count; ++position) {
      const bool dead = IsDead(tokens, position);
      std::fill(block.gate.begin(), block.gate.end(), 0.0f);
      std::fill(block.normed.begin(), block.normed.end(), 0.0f);
      if (!dead) {
        ReadHidden(shape_, hidden, position, isa_, block.hidden.data());
        Gate(position - first, block);
      }
      const size_t token = position % tokens.tokens;
      const size_t place = past == 0 ? 0 : (state.next_ + token) % past;
      Convolve(block.normed.data(), state, position / tokens.tokens, place, block.mixed.data());
      if (!dead) {
        kernels_->add(block.hidden.data(), block.gated.data(), channels);
        kernels_->add(block.hidden.data(), block.mixed.data(), channels);
        WriteHidden(shape_, block.hidden.data(), position, isa_, hidden);
      }
      if (!gates.empty()) {
        std::copy(block.gate.begin(), block.gate.end(),
                  gates.begin() + static_cast<ptrdiff_t>(position * branches));
      }
    }
  }
  if (past > 0) state.next_ = (state.next_ + tokens.tokens) % past;
  return absl::OkStatus();
}

}  // namespace engram

// Conditional memory on a CPU: rows of an Engram table fused into a model's hidden states.
//
//   ASSIGN_OR_RETURN(const V41Fusion fusion, V41Fusion::Create(shape, weights));
//   RETURN_IF_ERROR(ticket.Wait(layer));
//   RETURN_IF_ERROR(fusion.Apply({.sequences = 1, .tokens = n, .rows = rows}, hidden));
//
// Everything is computed in f32, whatever rows, weights and hidden states are; a bf16 hidden state
// is rounded once, to nearest even, when it is written. A position's result depends neither on what
// else is in the call nor on the machine's vector instructions, to the bit: a sequence may come in
// chunks of any sizes. Fusions are immutable and may be used from any number of threads; a call
// uses the thread that makes it, and memory of its own.
#ifndef ENGRAM_CLIENT_FUSION_FUSION_H_
#define ENGRAM_CLIENT_FUSION_FUSION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/fusion/kernels.h"
#include "client/fusion/weights.h"
#include "proto/base/isa.h"
#include "proto/row_layout.h"

namespace engram {

struct FusionShape {
  RowLayout row;        // as it is served: fp8 with scales, bf16, f16 or f32
  size_t columns = 0;   // rows of a token
  size_t hidden = 0;    // the model's width
  size_t branches = 1;  // of its hyper-connections; 1: a plain residual stream
  float norm_eps = 0;   // of the norms before the gate; the model's configuration has it

  size_t width() const { return columns * row.values; }  // values of a token
  // InvalidArgument: a row layout that is not valid or is not known here, nothing of something.
  absl::Status Validate() const;
};

// Positions of some sequences, as many of each.
struct FusionTokens {
  size_t sequences = 1;
  size_t tokens = 0;
  std::span<const uint8_t> rows;  // [sequences, tokens, columns, row_bytes], as tickets have them
  // [sequences, tokens], or empty: nonzero positions pass through, and their rows are not looked
  // at.
  std::span<const uint8_t> dead = {};
};

// [sequences, tokens, branches, hidden] of kF32 or kBf16, changed in place.
struct HiddenStates {
  ValueType type = ValueType::kF32;
  std::span<uint8_t> bytes;
};

// Calls of Apply, of either fusion, fail with InvalidArgument, and nothing has changed:
// - rows, dead flags, hidden states or gates that are not of the shape (the sizes named);
// - a hidden state's type that is neither f32 nor bf16, or not aligned to it;
// - a value of a row that is NaN or infinite, unless its position is dead (sequence, token, column
//   and value named).
// `gates`, unless empty: [sequences, tokens, branches], how far each gate was open; 0 where dead.

// DeepSeek-V4.1. `wkv` makes a key for each branch, then one value, of a token's rows; per branch
//   s = <rms(h) q, rms(key) k> / sqrt(hidden),  h += sigmoid(sign(s) sqrt(max(|s|, 1e-6))) value.
struct V41Weights {
  Weights wkv;  // [(branches + 1) x hidden, width]; borrowed by the fusion
  Weights q;    // [branches, hidden]
  Weights k;    // [branches, hidden]
};

class V41Fusion {
 public:
  // InvalidArgument: the shape, or a weight that does not fit it (named). `isa` must be one of
  // SupportedIsas().
  static absl::StatusOr<V41Fusion> Create(const FusionShape& shape, const V41Weights& weights,
                                          Isa isa = BestIsa());
  absl::Status Apply(const FusionTokens& tokens, HiddenStates hidden,
                     std::span<float> gates = {}) const;

 private:
  V41Fusion(const FusionShape& shape, const V41Weights& weights, Isa isa);

  FusionShape shape_;
  Weights wkv_;
  std::vector<float> qk_;  // [branches, hidden]: q and k always meet in a product
  const Kernels* kernels_;
  Isa isa_;
};

// The paper's demo. Of a token's rows come one key for each branch and one value, both with a bias;
// the gate is V4.1's. Then, with `gated` the gate times the value,
//   h += gated + silu(conv(rms(gated)))
// with a depth-wise causal convolution, whose tap j reads the position j x dilation before.
struct PaperBranch {
  Weights key, key_bias;         // [hidden, width], borrowed by the fusion; [hidden]
  Weights query_norm, key_norm;  // [hidden]
  Weights conv_norm;             // [hidden]
};

struct PaperWeights {
  std::vector<PaperBranch> branches;
  Weights value, value_bias;  // [hidden, width], borrowed by the fusion; [hidden]
  Weights conv;               // [branches x hidden, kernel], the last tap is the position itself
};

struct PaperShape : FusionShape {
  size_t kernel = 4;
  size_t dilation = 0;  // the longest n-gram
  float conv_norm_eps = 1e-5f;
};

// What the convolution of one layer has yet to see of a batch of sequences: the normed values of
// the last (kernel - 1) x dilation positions of each. Copyable: a copy is where a sequence forks.
class ConvState {
 public:
  size_t sequences() const { return sequences_; }

 private:
  friend class PaperFusion;
  ConvState(size_t sequences, size_t positions, size_t channels);

  size_t sequences_, positions_, channels_;
  size_t next_ = 0;            // place of the position to come: a ring
  std::vector<float> values_;  // [sequences, positions, channels]
};

class PaperFusion {
 public:
  // As V41Fusion::Create.
  static absl::StatusOr<PaperFusion> Create(const PaperShape& shape, const PaperWeights& weights,
                                            Isa isa = BestIsa());
  // Of sequences that begin.
  ConvState NewState(size_t sequences) const;
  // Moves `state` past the positions; a dead one leaves zeros there. Also InvalidArgument: `state`
  // is of another number of sequences, or of a fusion of another shape.
  absl::Status Apply(const FusionTokens& tokens, HiddenStates hidden, ConvState& state,
                     std::span<float> gates = {}) const;

 private:
  struct Branch {
    Weights key;
    std::vector<float> key_bias, qk, conv_norm;
  };
  struct Block;
  PaperFusion(const PaperShape& shape, Isa isa);
  absl::Status TakeWeights(const PaperWeights& weights);
  absl::Status CheckState(const ConvState& state, size_t sequences) const;
  void Project(const FusionTokens& tokens, size_t first, size_t count, Block& block) const;
  void Gate(size_t at, Block& block) const;
  void Convolve(const float* normed, ConvState& state, size_t sequence, size_t place,
                float* out) const;

  PaperShape shape_;
  std::vector<Branch> branches_;
  Weights value_;
  std::vector<float> value_bias_;
  std::vector<float> conv_;  // [kernel, branches x hidden], the position itself first
  const Kernels* kernels_;
  Isa isa_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_FUSION_FUSION_H_

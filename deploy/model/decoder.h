// A small byte-level decoder with Engram layers, on a CPU: what decoder.py trains.
#ifndef ENGRAM_DEPLOY_MODEL_DECODER_H_
#define ENGRAM_DEPLOY_MODEL_DECODER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/fusion/fusion.h"
#include "deploy/model/dense_tensors.h"
#include "deploy/model/memory.h"

namespace engram::model {

inline constexpr uint32_t kBeginToken = 257;  // bytes are the tokens below 256

// One sequence: the keys and values of its positions, and the convolutions' states.
class SequenceState {
 private:
  friend class Decoder;
  struct Layer {
    std::vector<float> keys, values;  // [positions, hidden]
  };
  size_t positions_ = 0;
  std::vector<Layer> layers_;
  std::map<uint32_t, ConvState> conv_;
};

// What a forward pass is to leave; empty: nobody looks at it.
struct ForwardOutput {
  std::span<float> logits;                          // [tokens, vocab]
  std::map<uint32_t, std::span<float>> gates = {};  // of a layer with a table: [tokens]
};

// Immutable; any number of threads may use it. All results are the same to the bit whatever the
// chunks that a sequence comes in, and wherever its rows come from.
class Decoder {
 public:
  // The weights and `config.json` in `directory`; `memory` says what rows are like, null for a
  // model without tables. InvalidArgument naming file and field or tensor: anything that does not
  // fit, tables of other layers than the configuration's among it.
  static absl::StatusOr<std::unique_ptr<Decoder>> Open(const std::string& directory,
                                                       const Memory* memory, Isa isa = BestIsa());

  size_t vocab() const { return vocab_; }
  const std::vector<uint32_t>& table_layers() const { return table_layers_; }
  SequenceState NewState() const;

  // The next tokens of the sequence of `state`, which moves past them. `rows` are theirs, waited
  // for layer by layer; null for a model without tables. After an error the state is not to be
  // used any more. InvalidArgument: no tokens, a token beyond the vocabulary, more than 65,536
  // positions; codes of RowsAhead::Wait and of the fusion.
  absl::Status Forward(std::span<const uint32_t> tokens, RowsAhead* rows, SequenceState& state,
                       const ForwardOutput& output) const;

 private:
  struct Layer {
    std::vector<float> attention_norm, mlp_norm;
    Weights qkv, out, up, down;
  };

  Decoder() = default;
  absl::Status ReadSizes(const std::string& directory);
  absl::Status ReadWeights();
  absl::Status MakeFusion(uint32_t layer, const RowLayout& layout, const Geometry& geometry,
                          bool is_paper, Isa isa);
  absl::Status Fuse(uint32_t layer, size_t tokens, RowsAhead& rows, SequenceState& state,
                    std::span<float> gates, std::vector<float>& hidden) const;
  void Attend(const Layer& layer, SequenceState::Layer& past, size_t before,
              std::vector<float>& hidden) const;
  void ApplyMlp(const Layer& layer, std::vector<float>& hidden) const;
  std::vector<float> Normed(const std::vector<float>& hidden, const std::vector<float>& norm) const;

  size_t vocab_ = 0, hidden_ = 0, heads_ = 0, mlp_ = 0;
  float norm_eps_ = 0;
  std::optional<DenseTensors> tensors_;
  std::vector<float> embed_, norm_;
  Weights head_;
  std::vector<Layer> layers_;
  std::vector<uint32_t> table_layers_;
  std::map<uint32_t, V41Fusion> v41_;
  std::map<uint32_t, PaperFusion> paper_;
  const Kernels* kernels_ = nullptr;
};

}  // namespace engram::model

#endif  // ENGRAM_DEPLOY_MODEL_DECODER_H_

#include "deploy/model/decoder.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"
#include "proto/model_config.h"

namespace engram::model {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxPositions = 65536;

std::vector<uint32_t> Sorted(std::vector<uint32_t> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace

absl::Status Decoder::ReadSizes(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/config.json");
  ASSIGN_OR_RETURN(const nlohmann::json config, ReadJsonFile(path, kMaxConfigBytes));
  const auto found = config.find("decoder");
  if (found == config.end() || !found->is_object()) {
    return JsonFields(config, path).Complain("decoder", "is missing or not an object");
  }
  const JsonFields sizes(*found, absl::StrCat(path, ": decoder"));
  ASSIGN_OR_RETURN(vocab_, sizes.Uint("vocab", kBeginToken + 1, kMaxVocab));
  ASSIGN_OR_RETURN(hidden_, sizes.Uint("hidden", 1, 1 << 16));
  ASSIGN_OR_RETURN(heads_, sizes.Uint("heads", 1, hidden_));
  ASSIGN_OR_RETURN(mlp_, sizes.Uint("mlp", 1, 1 << 20));
  ASSIGN_OR_RETURN(const uint64_t layers, sizes.Uint("layers", 1, 1024));
  layers_.resize(layers);
  if (hidden_ % heads_ != 0) {
    return sizes.Complain("heads",
                          absl::StrCat("is ", heads_, ", which does not divide ", hidden_));
  }
  const auto eps = found->find("norm_eps");
  if (eps == found->end() || !eps->is_number() || eps->get<double>() < 0) {
    return sizes.Complain("norm_eps", "is missing or not a number of at least 0");
  }
  norm_eps_ = eps->get<float>();
  return absl::OkStatus();
}

absl::Status Decoder::ReadWeights() {
  const auto floats = [&](const std::string& name, size_t rows,
                          size_t columns) -> absl::StatusOr<std::vector<float>> {
    ASSIGN_OR_RETURN(const Weights weights, tensors_->Get(name, rows, columns));
    return ToFloats(name, weights, rows, columns);
  };
  ASSIGN_OR_RETURN(embed_, floats("embed.weight", vocab_, hidden_));
  ASSIGN_OR_RETURN(norm_, floats("norm.weight", 1, hidden_));
  ASSIGN_OR_RETURN(head_, tensors_->Get("head.weight", vocab_, hidden_));
  for (size_t i = 0; i < layers_.size(); ++i) {
    const std::string prefix = absl::StrCat("layers.", i, ".");
    Layer& layer = layers_[i];
    ASSIGN_OR_RETURN(layer.attention_norm, floats(prefix + "attention_norm.weight", 1, hidden_));
    ASSIGN_OR_RETURN(layer.mlp_norm, floats(prefix + "mlp_norm.weight", 1, hidden_));
    ASSIGN_OR_RETURN(layer.qkv, tensors_->Get(prefix + "qkv.weight", 3 * hidden_, hidden_));
    ASSIGN_OR_RETURN(layer.out, tensors_->Get(prefix + "out.weight", hidden_, hidden_));
    ASSIGN_OR_RETURN(layer.up, tensors_->Get(prefix + "up.weight", mlp_, hidden_));
    ASSIGN_OR_RETURN(layer.down, tensors_->Get(prefix + "down.weight", hidden_, mlp_));
  }
  return absl::OkStatus();
}

absl::Status Decoder::MakeFusion(uint32_t layer, const RowLayout& layout, const Geometry& geometry,
                                 bool is_paper, Isa isa) {
  const std::string prefix = absl::StrCat("layers.", layer, ".engram.");
  const auto get = [&](const char* name, size_t rows, size_t columns) {
    return tensors_->Get(prefix + name, rows, columns);
  };
  PaperShape shape;
  shape.row = layout;
  shape.columns = geometry.columns();
  shape.hidden = hidden_;
  shape.norm_eps = norm_eps_;
  shape.dilation = geometry.params().max_ngram;
  shape.conv_norm_eps = norm_eps_;
  if (!is_paper) {
    V41Weights weights;
    ASSIGN_OR_RETURN(weights.wkv, get("wkv.weight", 2 * hidden_, shape.width()));
    ASSIGN_OR_RETURN(weights.q, get("q_weight", 1, hidden_));
    ASSIGN_OR_RETURN(weights.k, get("k_weight", 1, hidden_));
    ASSIGN_OR_RETURN(V41Fusion fusion, V41Fusion::Create(shape, weights, isa));
    v41_.emplace(layer, std::move(fusion));
    return absl::OkStatus();
  }
  PaperWeights weights;
  PaperBranch& branch = weights.branches.emplace_back();
  ASSIGN_OR_RETURN(branch.key, get("key_projs.0.weight", hidden_, shape.width()));
  ASSIGN_OR_RETURN(branch.key_bias, get("key_projs.0.bias", 1, hidden_));
  ASSIGN_OR_RETURN(branch.key_norm, get("norm1.0.weight", 1, hidden_));
  ASSIGN_OR_RETURN(branch.query_norm, get("norm2.0.weight", 1, hidden_));
  ASSIGN_OR_RETURN(branch.conv_norm, get("short_conv.norms.0.weight", 1, hidden_));
  ASSIGN_OR_RETURN(weights.value, get("value_proj.weight", hidden_, shape.width()));
  ASSIGN_OR_RETURN(weights.value_bias, get("value_proj.bias", 1, hidden_));
  ASSIGN_OR_RETURN(weights.conv, get("short_conv.conv.weight", hidden_, shape.kernel));
  ASSIGN_OR_RETURN(PaperFusion fusion, PaperFusion::Create(shape, weights, isa));
  paper_.emplace(layer, std::move(fusion));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Open(const std::string& directory,
                                                       const Memory* memory, Isa isa) {
  std::unique_ptr<Decoder> decoder(new Decoder());
  decoder->kernels_ = &KernelsOf(isa);
  RETURN_IF_ERROR(decoder->ReadSizes(directory));
  ASSIGN_OR_RETURN(decoder->tensors_, DenseTensors::Read(directory));
  RETURN_IF_ERROR(decoder->ReadWeights());
  if (memory == nullptr) return decoder;
  const std::string path = absl::StrCat(directory, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(text, path));
  const Geometry& geometry = memory->geometry();
  decoder->table_layers_ = Sorted(geometry.params().layer_ids);
  if (decoder->table_layers_ != Sorted(config.params.layer_ids) ||
      decoder->table_layers_.back() >= decoder->layers_.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the rows are of tables at layers ", absl::StrJoin(decoder->table_layers_, ", "), ", ",
        path, " has tables at layers ", absl::StrJoin(config.params.layer_ids, ", "), " of ",
        decoder->layers_.size()));
  }
  for (uint32_t layer : decoder->table_layers_) {
    RETURN_IF_ERROR(decoder->MakeFusion(layer, memory->layout(), geometry,
                                        config.family == ModelFamily::kPaper, isa));
  }
  return decoder;
}

SequenceState Decoder::NewState() const {
  SequenceState state;
  state.layers_.resize(layers_.size());
  for (const auto& [layer, fusion] : paper_) state.conv_.emplace(layer, fusion.NewState(1));
  return state;
}

std::vector<float> Decoder::Normed(const std::vector<float>& hidden,
                                   const std::vector<float>& norm) const {
  std::vector<float> normed(hidden.size());
  for (size_t at = 0; at < hidden.size(); at += hidden_) {
    const float* const x = hidden.data() + at;
    const float mean = kernels_->dot(x, x, hidden_) / static_cast<float>(hidden_);
    kernels_->scaled_product(normed.data() + at, x, norm.data(), 1 / std::sqrt(mean + norm_eps_),
                             hidden_);
  }
  return normed;
}

// Causal attention; `before`: positions of the sequence before these. A head's scores fall with the
// distance, by 2^(-8 (head + 1) / heads) a position (ALiBi), so that positions have no embedding.
void Decoder::Attend(const Layer& layer, SequenceState::Layer& past, size_t before,
                     std::vector<float>& hidden) const {
  const size_t tokens = hidden.size() / hidden_, size = hidden_ / heads_;
  const std::vector<float> normed = Normed(hidden, layer.attention_norm);
  std::vector<float> qkv(3 * hidden.size()), mixed(hidden.size()), scores(before + tokens);
  MatMul(*kernels_, normed.data(), tokens, hidden_, layer.qkv, 3 * hidden_, qkv.data());
  for (size_t t = 0; t < tokens; ++t) {
    const float* const query = qkv.data() + t * 3 * hidden_;
    const float *const key = query + hidden_, *const value = key + hidden_;
    past.keys.insert(past.keys.end(), key, key + hidden_);
    past.values.insert(past.values.end(), value, value + hidden_);
    const size_t count = before + t + 1;
    for (size_t head = 0; head < heads_; ++head) {
      const size_t at = head * size;
      const float slope =
          std::exp2(-8.0f * static_cast<float>(head + 1) / static_cast<float>(heads_));
      for (size_t p = 0; p < count; ++p) {
        scores[p] = kernels_->dot(query + at, past.keys.data() + p * hidden_ + at, size) /
                        std::sqrt(static_cast<float>(size)) -
                    slope * static_cast<float>(count - 1 - p);
      }
      const float most =
          *std::max_element(scores.begin(), scores.begin() + static_cast<ptrdiff_t>(count));
      for (size_t p = 0; p < count; ++p) scores[p] -= most;
      kernels_->exp(scores.data(), count);
      float sum = 0;
      for (size_t p = 0; p < count; ++p) sum += scores[p];
      for (size_t p = 0; p < count; ++p) {
        kernels_->add_scaled(mixed.data() + t * hidden_ + at, past.values.data() + p * hidden_ + at,
                             scores[p] / sum, size);
      }
    }
  }
  std::vector<float> out(hidden.size());
  MatMul(*kernels_, mixed.data(), tokens, hidden_, layer.out, hidden_, out.data());
  kernels_->add(hidden.data(), out.data(), hidden.size());
}

void Decoder::ApplyMlp(const Layer& layer, std::vector<float>& hidden) const {
  const size_t tokens = hidden.size() / hidden_;
  const std::vector<float> normed = Normed(hidden, layer.mlp_norm);
  std::vector<float> up(tokens * mlp_), down(hidden.size());
  MatMul(*kernels_, normed.data(), tokens, hidden_, layer.up, mlp_, up.data());
  for (float& x : up) x = x > 0 ? x * x : 0;
  MatMul(*kernels_, up.data(), tokens, mlp_, layer.down, hidden_, down.data());
  kernels_->add(hidden.data(), down.data(), hidden.size());
}

absl::Status Decoder::Fuse(uint32_t layer, size_t tokens, RowsAhead& rows, SequenceState& state,
                           std::span<float> gates, std::vector<float>& hidden) const {
  ASSIGN_OR_RETURN(const std::span<const uint8_t> bytes, rows.Wait(layer));
  const FusionTokens input{.sequences = 1, .tokens = tokens, .rows = bytes};
  const HiddenStates states{
      ValueType::kF32, {reinterpret_cast<uint8_t*>(hidden.data()), hidden.size() * sizeof(float)}};
  const auto v41 = v41_.find(layer);
  const absl::Status fused =
      v41 != v41_.end() ? v41->second.Apply(input, states, gates)
                        : paper_.at(layer).Apply(input, states, state.conv_.at(layer), gates);
  if (fused.ok()) return fused;
  return absl::Status(fused.code(), absl::StrCat("layer ", layer, ": ", fused.message()));
}

absl::Status Decoder::Forward(std::span<const uint32_t> tokens, RowsAhead* rows,
                              SequenceState& state, const ForwardOutput& output) const {
  if (tokens.empty()) return absl::InvalidArgumentError("no tokens");
  if (tokens.size() > kMaxPositions - state.positions_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequence is longer than ", kMaxPositions, " positions"));
  }
  if (!output.logits.empty() && output.logits.size() != tokens.size() * vocab_) {
    return absl::InvalidArgumentError(absl::StrCat("`logits` has ", output.logits.size(),
                                                   " values, expected [", tokens.size(), ", ",
                                                   vocab_, "]"));
  }
  std::vector<float> hidden;
  for (uint32_t token : tokens) {
    if (token >= vocab_) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, " is beyond the vocabulary of ", vocab_));
    }
    const float* const row = embed_.data() + token * hidden_;
    hidden.insert(hidden.end(), row, row + hidden_);
  }
  for (uint32_t i = 0; i < layers_.size(); ++i) {
    if (std::binary_search(table_layers_.begin(), table_layers_.end(), i)) {
      if (rows == nullptr) return absl::InvalidArgumentError("the model has tables, and no rows");
      const auto gates = output.gates.find(i);
      RETURN_IF_ERROR(Fuse(i, tokens.size(), *rows, state,
                           gates == output.gates.end() ? std::span<float>() : gates->second,
                           hidden));
    }
    Attend(layers_[i], state.layers_[i], state.positions_, hidden);
    ApplyMlp(layers_[i], hidden);
  }
  state.positions_ += tokens.size();
  if (output.logits.empty()) return absl::OkStatus();
  const std::vector<float> normed = Normed(hidden, norm_);
  MatMul(*kernels_, normed.data(), tokens.size(), hidden_, head_, vocab_, output.logits.data());
  return absl::OkStatus();
}

}  // namespace engram::model

// The Engram part of a Hugging Face config.json.
#ifndef ENGRAM_PROTO_MODEL_CONFIG_H_
#define ENGRAM_PROTO_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"
#include "proto/row_layout.h"

namespace engram {

// kPle: Qwen4-Exp (Qwen3.8-Flash-Next), which calls its table per-layer embedding.
enum class ModelFamily { kV41, kPaper, kPle };

struct ModelConfig {
  ModelFamily family = ModelFamily::kV41;
  std::string model;        // `model_type`, or the family's name; never with spaces
  GeometryParams params;    // compressed_vocab is 0 where the configuration does not state it
                            // (paper variant): it then comes from the tokenizer
  uint32_t row_values = 0;  // values per row
  std::optional<std::vector<uint64_t>> expected_rows;  // `engram_num_embeddings`
};

// Reads the fields of one of three kinds of model:
// - DeepSeek-V4.1, at the top level or under `text_config`: `engram_layer_ids`,
//   `engram_max_ngram_size`, `engram_n_heads`, `engram_vocab_size`, `engram_head_dim`,
//   `engram_pad_token_id`, `engram_compressed_vocab_size`, `engram_num_embeddings`; `seed`
//   optional, 0 without.
// - The paper's demo, at the top level: `layer_ids`, `max_ngram_size`, `n_head_per_ngram`,
//   `engram_vocab_size`, `n_embed_per_ngram`, `pad_id`, `seed`; `compressed_vocab_size` optional.
// - Qwen4-Exp, at the top level or under `text_config`: `ple_layer_ids`, `vocab_size`,
//   `eos_token_id` (of a list, the first), `ple_embed_dim` (`hidden_size` without); with the
//   defaults of transformers' Qwen4ExpTextConfig `ngram_size` 3, `heads_per_ngram` 8,
//   `ngram_vocab_size_base` 20,000,000, `make_ngram_vocab_size_divisible_by` 128, `seed` 1234.
// `engram_vocab_size` is one number for every n-gram order, or a list with one number per order.
// `source` names the document in messages. InvalidArgument: no Engram fields, several kinds
// or places at once, or a field that is missing, of the wrong type or out of bounds (named).
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view source);

// The configuration with its compressed vocabulary settled: `token_map_vocab` is the count of the
// token map where there is one. InvalidArgument: it contradicts the configuration's, or neither
// states one. Derives the geometry and holds it against `expected_rows`. OutOfRange: tables whose
// bytes, at 4 a value, do not fit into 63 bits.
absl::StatusOr<Geometry> ResolveGeometry(const ModelConfig& config,
                                         std::optional<uint32_t> token_map_vocab);

}  // namespace engram

#endif  // ENGRAM_PROTO_MODEL_CONFIG_H_

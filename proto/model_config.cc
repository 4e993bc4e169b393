#include "proto/model_config.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kMaxRowValues = 65536;
constexpr uint64_t kMaxLayerRows = uint64_t{1} << 50;
constexpr uint64_t kFp8GroupValues = 32;  // values that share one ue8m0 scale
// Beyond 2^62, adding 10007 * layer id could wrap.
constexpr uint64_t kMaxSeed = uint64_t{1} << 62;

// Fields that only one kind of model has: any of them decides the kind, so that one that is missing
// is then complained of by name. (`engram_vocab_size` is in both kinds; `layer_ids`, `pad_id` and
// `seed` are anybody's.)
constexpr absl::string_view kV41Fields[] = {"engram_layer_ids",     "engram_max_ngram_size",
                                            "engram_n_heads",       "engram_head_dim",
                                            "engram_pad_token_id",  "engram_compressed_vocab_size",
                                            "engram_num_embeddings"};
constexpr absl::string_view kPaperFields[] = {"max_ngram_size", "n_head_per_ngram",
                                              "n_embed_per_ngram"};
constexpr absl::string_view kSharedField = "engram_vocab_size";

template <size_t N>
bool HasAny(const JsonFields& fields, const absl::string_view (&names)[N]) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](absl::string_view name) { return fields.Has(name); });
}

absl::StatusOr<std::vector<uint32_t>> LayerIds(const JsonFields& fields, absl::string_view field) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> ids,
                   fields.UintList(field, 0, kMaxLayerId, kMaxLayers));
  return std::vector<uint32_t>(ids.begin(), ids.end());
}

absl::StatusOr<uint32_t> Uint32(const JsonFields& fields, absl::string_view field, uint64_t min,
                                uint64_t max) {
  ASSIGN_OR_RETURN(const uint64_t value, fields.Uint(field, min, max));
  return static_cast<uint32_t>(value);
}

// One floor per order; a single number stands for every order.
absl::StatusOr<std::vector<uint64_t>> BucketFloors(const JsonFields& fields, uint32_t orders) {
  ASSIGN_OR_RETURN(std::vector<uint64_t> floors,
                   fields.UintOrList(kSharedField, 1, kMaxBucketFloor, kMaxNgram));
  if (!fields.object()[std::string(kSharedField)].is_array()) floors.assign(orders, floors[0]);
  if (floors.size() != orders) {
    return fields.Complain(kSharedField, absl::StrCat("has ", floors.size(), " bucket floors for ",
                                                      orders, " n-gram orders"));
  }
  return floors;
}

absl::Status ParseV41(const JsonFields& fields, ModelConfig& config) {
  config.family = ModelFamily::kV41;
  GeometryParams& params = config.params;
  ASSIGN_OR_RETURN(params.layer_ids, LayerIds(fields, "engram_layer_ids"));
  ASSIGN_OR_RETURN(params.max_ngram, Uint32(fields, "engram_max_ngram_size", 2, kMaxNgram));
  ASSIGN_OR_RETURN(params.heads, Uint32(fields, "engram_n_heads", 1, kMaxHeads));
  ASSIGN_OR_RETURN(params.bucket_floors, BucketFloors(fields, params.orders()));
  ASSIGN_OR_RETURN(params.pad_token, Uint32(fields, "engram_pad_token_id", 0, kMaxVocab - 1));
  ASSIGN_OR_RETURN(params.compressed_vocab,
                   Uint32(fields, "engram_compressed_vocab_size", 1, kMaxVocab));
  ASSIGN_OR_RETURN(config.row_values, Uint32(fields, "engram_head_dim", 1, kMaxRowValues));
  if (config.row_values % kFp8GroupValues != 0) {
    return fields.Complain("engram_head_dim",
                           absl::StrCat("is ", config.row_values, ", not a multiple of 32"));
  }
  ASSIGN_OR_RETURN(config.expected_rows,
                   fields.UintList("engram_num_embeddings", 1, kMaxLayerRows, kMaxLayers));
  // DeepSeek-V4.1-Flash has no such field: its seed is 0.
  if (fields.Has("seed")) {
    ASSIGN_OR_RETURN(params.seed, fields.Uint("seed", 0, kMaxSeed));
  }
  return absl::OkStatus();
}

absl::Status ParsePaper(const JsonFields& fields, ModelConfig& config) {
  config.family = ModelFamily::kPaper;
  GeometryParams& params = config.params;
  ASSIGN_OR_RETURN(params.layer_ids, LayerIds(fields, "layer_ids"));
  ASSIGN_OR_RETURN(params.max_ngram, Uint32(fields, "max_ngram_size", 2, kMaxNgram));
  ASSIGN_OR_RETURN(params.heads, Uint32(fields, "n_head_per_ngram", 1, kMaxHeads));
  ASSIGN_OR_RETURN(params.bucket_floors, BucketFloors(fields, params.orders()));
  ASSIGN_OR_RETURN(params.pad_token, Uint32(fields, "pad_id", 0, kMaxVocab - 1));
  ASSIGN_OR_RETURN(params.seed, fields.Uint("seed", 0, kMaxSeed));
  ASSIGN_OR_RETURN(const uint64_t embedding,
                   fields.Uint("n_embed_per_ngram", 1, kMaxRowValues * kMaxHeads));
  if (embedding % params.heads != 0 || embedding / params.heads > kMaxRowValues) {
    return fields.Complain(
        "n_embed_per_ngram",
        absl::StrCat("is ", embedding, ", which ", params.heads,
                     " heads do not share evenly in rows of at most ", kMaxRowValues, " values"));
  }
  config.row_values = static_cast<uint32_t>(embedding / params.heads);
  if (fields.Has("compressed_vocab_size")) {
    ASSIGN_OR_RETURN(params.compressed_vocab,
                     Uint32(fields, "compressed_vocab_size", 1, kMaxVocab));
  }
  return absl::OkStatus();
}

// The model's name goes into one word of a server's line.
absl::StatusOr<std::string> ModelName(const JsonFields& document, ModelFamily family) {
  if (!document.Has("model_type")) {
    return std::string(family == ModelFamily::kV41 ? "deepseek_v41" : "engram_paper");
  }
  ASSIGN_OR_RETURN(const std::string name, document.String("model_type"));
  if (name.empty() || name.size() > 100 || !std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return document.Complain("model_type", "is not one word of 1 to 100 printable characters");
  }
  return name;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view source) {
  ASSIGN_OR_RETURN(const nlohmann::json document, ParseJsonObject(json, source));
  const JsonFields top(document, std::string(source));
  const auto nested = document.find("text_config");
  const bool has_nested = nested != document.end() && nested->is_object();
  const JsonFields text(has_nested ? *nested : document, absl::StrCat(source, ": text_config"));
  const bool paper = HasAny(top, kPaperFields);
  const bool v41_top = HasAny(top, kV41Fields) || (top.Has(kSharedField) && !paper);
  const bool v41_nested = has_nested && (HasAny(text, kV41Fields) || text.Has(kSharedField));
  if (!v41_top && !v41_nested && !paper) {
    return absl::InvalidArgumentError(absl::StrCat(
        source,
        " has no Engram fields (neither `engram_layer_ids` and its like, there or under "
        "`text_config`, nor `n_head_per_ngram` and its like)"));
  }
  if (v41_top + v41_nested + paper > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " has Engram fields in more than one place or of more than one kind"));
  }
  ModelConfig config;
  RETURN_IF_ERROR(paper ? ParsePaper(top, config) : ParseV41(v41_top ? top : text, config));
  ASSIGN_OR_RETURN(config.model, ModelName(top, config.family));
  return config;
}

absl::StatusOr<Geometry> ResolveGeometry(const ModelConfig& config,
                                         std::optional<uint32_t> token_map_vocab) {
  GeometryParams params = config.params;
  if (token_map_vocab.has_value()) {
    if (params.compressed_vocab != 0 && params.compressed_vocab != *token_map_vocab) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the tokenizer compresses to ", *token_map_vocab, " ids, but the configuration's `",
          config.family == ModelFamily::kV41 ? "engram_" : "", "compressed_vocab_size` is ",
          params.compressed_vocab, ": every row id would be another"));
    }
    params.compressed_vocab = *token_map_vocab;
  }
  if (params.compressed_vocab == 0) {
    return absl::InvalidArgumentError(
        "the configuration states no compressed vocabulary and there is no tokenizer to count it");
  }
  return Geometry::Derive(params, config.expected_rows);
}

}  // namespace engram

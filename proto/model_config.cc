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

// Fields that only one kind of model has: any of them decides the kind, so that one that is missing
// is then complained of by name. (`engram_vocab_size` is in both kinds; `layer_ids`, `pad_id` and
// `seed` are anybody's.)
constexpr absl::string_view kV41Fields[] = {"engram_layer_ids",     "engram_max_ngram_size",
                                            "engram_n_heads",       "engram_head_dim",
                                            "engram_pad_token_id",  "engram_compressed_vocab_size",
                                            "engram_num_embeddings"};
constexpr absl::string_view kPaperFields[] = {"max_ngram_size", "n_head_per_ngram",
                                              "n_embed_per_ngram"};
constexpr absl::string_view kPleFields[] = {"ple_layer_ids"};
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

// `field` is the width of an embedding that `columns` rows make up.
absl::StatusOr<uint32_t> ValuesPerColumn(const JsonFields& fields, absl::string_view field,
                                         uint32_t columns) {
  ASSIGN_OR_RETURN(const uint64_t width,
                   fields.Uint(field, 1, kMaxRowValues * kMaxHeads * kMaxNgram));
  if (width % columns != 0 || width / columns > kMaxRowValues) {
    return fields.Complain(field, absl::StrCat("is ", width, ", which ", columns,
                                               " heads do not share evenly in rows of at most ",
                                               kMaxRowValues, " values"));
  }
  return static_cast<uint32_t>(width / columns);
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
  ASSIGN_OR_RETURN(config.row_values, ValuesPerColumn(fields, "n_embed_per_ngram", params.heads));
  if (fields.Has("compressed_vocab_size")) {
    ASSIGN_OR_RETURN(params.compressed_vocab,
                     Uint32(fields, "compressed_vocab_size", 1, kMaxVocab));
  }
  return absl::OkStatus();
}

// A field that transformers has a default for.
absl::StatusOr<uint64_t> UintOr(const JsonFields& fields, absl::string_view field, uint64_t min,
                                uint64_t max, uint64_t otherwise) {
  if (!fields.Has(field)) return otherwise;
  return fields.Uint(field, min, max);
}

absl::Status ParsePle(const JsonFields& fields, ModelConfig& config) {
  config.family = ModelFamily::kPle;
  GeometryParams& params = config.params;
  params.rule = HashRule::kPle;
  ASSIGN_OR_RETURN(params.layer_ids, LayerIds(fields, "ple_layer_ids"));
  // transformers sorts them and drops repetitions; a layer's place decides its multipliers.
  if (!std::is_sorted(params.layer_ids.begin(), params.layer_ids.end()) ||
      params.layer_ids.front() == 0) {
    return fields.Complain("ple_layer_ids", "is not an ascending list of layers counted from 1");
  }
  ASSIGN_OR_RETURN(const uint64_t max_ngram, UintOr(fields, "ngram_size", 2, kMaxNgram, 3));
  ASSIGN_OR_RETURN(const uint64_t heads, UintOr(fields, "heads_per_ngram", 1, kMaxHeads, 8));
  ASSIGN_OR_RETURN(const uint64_t floor,
                   UintOr(fields, "ngram_vocab_size_base", 1, kMaxBucketFloor, 20'000'000));
  ASSIGN_OR_RETURN(params.row_multiple,
                   UintOr(fields, "make_ngram_vocab_size_divisible_by", 1, kMaxRowMultiple, 128));
  ASSIGN_OR_RETURN(params.seed, UintOr(fields, "seed", 0, kMaxSeed, 1234));
  ASSIGN_OR_RETURN(params.compressed_vocab, Uint32(fields, "vocab_size", 1, kMaxVocab));
  ASSIGN_OR_RETURN(const std::vector<uint64_t> ends,
                   fields.UintOrList("eos_token_id", 0, params.compressed_vocab - 1, 64));
  params.max_ngram = static_cast<uint32_t>(max_ngram);
  params.heads = static_cast<uint32_t>(heads);
  params.bucket_floors.assign(params.orders(), floor);
  params.pad_token = static_cast<uint32_t>(ends.front());
  const absl::string_view width = fields.Has("ple_embed_dim") ? "ple_embed_dim" : "hidden_size";
  ASSIGN_OR_RETURN(config.row_values, ValuesPerColumn(fields, width, params.columns()));
  return absl::OkStatus();
}

// The model's name goes into one word of a server's line.
absl::StatusOr<std::string> ModelName(const JsonFields& document, ModelFamily family) {
  if (!document.Has("model_type")) {
    switch (family) {
      case ModelFamily::kV41:
        return std::string("deepseek_v41");
      case ModelFamily::kPaper:
        return std::string("engram_paper");
      case ModelFamily::kPle:
        return std::string("qwen4_exp");
    }
  }
  ASSIGN_OR_RETURN(const std::string name, document.String("model_type"));
  if (name.empty() || name.size() > 100 || !std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return document.Complain("model_type", "is not one word of 1 to 100 printable characters");
  }
  return name;
}

absl::string_view VocabularyField(ModelFamily family) {
  switch (family) {
    case ModelFamily::kV41:
      return "engram_compressed_vocab_size";
    case ModelFamily::kPaper:
      return "compressed_vocab_size";
    case ModelFamily::kPle:
      return "vocab_size";
  }
  return "";
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
  const bool ple_top = HasAny(top, kPleFields);
  const bool ple_nested = has_nested && HasAny(text, kPleFields);
  const int kinds = paper + v41_top + v41_nested + ple_top + ple_nested;
  if (kinds == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        source,
        " has no Engram fields (neither `engram_layer_ids` and its like or `ple_layer_ids`, there "
        "or under `text_config`, nor `n_head_per_ngram` and its like)"));
  }
  if (kinds > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " has Engram fields in more than one place or of more than one kind"));
  }
  ModelConfig config;
  if (paper) {
    RETURN_IF_ERROR(ParsePaper(top, config));
  } else if (v41_top || v41_nested) {
    RETURN_IF_ERROR(ParseV41(v41_top ? top : text, config));
  } else {
    RETURN_IF_ERROR(ParsePle(ple_top ? top : text, config));
  }
  ASSIGN_OR_RETURN(config.model, ModelName(top, config.family));
  return config;
}

absl::StatusOr<Geometry> ResolveGeometry(const ModelConfig& config,
                                         std::optional<uint32_t> token_map_vocab) {
  GeometryParams params = config.params;
  if (token_map_vocab.has_value()) {
    if (params.compressed_vocab != 0 && params.compressed_vocab != *token_map_vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("the tokenizer compresses to ", *token_map_vocab,
                       " ids, but the configuration's `", VocabularyField(config.family), "` is ",
                       params.compressed_vocab, ": every row id would be another"));
    }
    params.compressed_vocab = *token_map_vocab;
  }
  if (params.compressed_vocab == 0) {
    return absl::InvalidArgumentError(
        "the configuration states no compressed vocabulary and there is no tokenizer to count it");
  }
  ASSIGN_OR_RETURN(Geometry geometry, Geometry::Derive(params, config.expected_rows));
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(geometry.total_rows(), uint64_t{4} * config.row_values, &bytes) ||
      bytes > INT64_MAX) {
    return absl::OutOfRangeError(absl::StrCat("the configuration's tables of ",
                                              geometry.total_rows(), " rows of ", config.row_values,
                                              " values are larger than any file"));
  }
  return geometry;
}

}  // namespace engram

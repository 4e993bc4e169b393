#include "storage/table_tensors.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr absl::string_view kPaperSuffix = "multi_head_embedding.embedding.weight";
constexpr absl::string_view kPleInfix = ".ple.ple_embedding.ngram_embedding.";

// What a tensor's name says.
struct TableName {
  uint32_t layer = 0;
  bool is_scale = false;
  std::optional<uint32_t> part;  // of a table cut into several tensors
};

// Decimal digits as a program writes them: SimpleAtoi alone would take "01" and "+1".
std::optional<uint32_t> Number(absl::string_view text) {
  uint32_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || absl::StrCat(value) != text) return std::nullopt;
  return value;
}

// L of "[PREFIX.]layers.L".
std::optional<uint32_t> LayerAtEnd(absl::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return std::nullopt;
  absl::string_view prefix = name.substr(0, dot);
  if (!absl::ConsumeSuffix(&prefix, "layers")) return std::nullopt;
  if (!prefix.empty() && !absl::EndsWith(prefix, ".")) return std::nullopt;
  return Number(name.substr(dot + 1));
}

std::optional<TableName> ParseV41(absl::string_view name) {
  TableName result;
  if (absl::ConsumeSuffix(&name, ".engram.embed.scale")) {
    result.is_scale = true;
  } else if (!absl::ConsumeSuffix(&name, ".engram.embed.weight")) {
    return std::nullopt;
  }
  const std::optional<uint32_t> layer = LayerAtEnd(name);
  if (!layer.has_value()) return std::nullopt;
  result.layer = *layer;
  return result;
}

std::optional<TableName> ParsePaper(absl::string_view name) {
  if (!absl::ConsumeSuffix(&name, kPaperSuffix) || !absl::ConsumeSuffix(&name, ".")) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> words = absl::StrSplit(name, '.');
  for (auto word = words.rbegin(); word != words.rend(); ++word) {
    if (const std::optional<uint32_t> layer = Number(*word)) return TableName{*layer, false, {}};
  }
  return std::nullopt;
}

std::optional<TableName> ParsePle(absl::string_view name) {
  const size_t infix = name.rfind(kPleInfix);
  if (infix == absl::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> index = LayerAtEnd(name.substr(0, infix));
  if (!index.has_value()) return std::nullopt;
  TableName result{*index + 1, false, {}};  // `ple_layer_ids` counts from 1, tensors from 0.
  absl::string_view rest = name.substr(infix + kPleInfix.size());
  if (rest == "weight") return result;
  if (!absl::ConsumePrefix(&rest, "shard_") || !absl::ConsumeSuffix(&rest, ".weight")) {
    return std::nullopt;
  }
  result.part = Number(rest);
  return result.part.has_value() ? std::optional(result) : std::nullopt;
}

std::optional<TableName> ParseName(ModelFamily family, absl::string_view name) {
  switch (family) {
    case ModelFamily::kV41:
      return ParseV41(name);
    case ModelFamily::kPaper:
      return ParsePaper(name);
    case ModelFamily::kPle:
      return ParsePle(name);
  }
  return std::nullopt;
}

// A complete name, for messages about one that is missing.
std::string NameOf(ModelFamily family, uint32_t layer, bool is_scale) {
  switch (family) {
    case ModelFamily::kV41:
      return absl::StrCat("layers.", layer, ".engram.embed.", is_scale ? "scale" : "weight");
    case ModelFamily::kPaper:
      return absl::StrCat("layers.", layer, ".engram.", kPaperSuffix);
    case ModelFamily::kPle:
      return absl::StrCat("layers.", layer - 1, kPleInfix, "weight");
  }
  return "";
}

std::optional<ValueType> ValueTypeOf(ModelFamily family, absl::string_view dtype) {
  if (family == ModelFamily::kV41) {
    if (dtype == "F8_E4M3" || dtype == "U8" || dtype == "I8") return ValueType::kFp8E4M3;
    return std::nullopt;
  }
  if (dtype == "F8_E4M3" && family == ModelFamily::kPle) return ValueType::kFp8E4M3;
  if (dtype == "BF16") return ValueType::kBf16;
  if (dtype == "F16") return ValueType::kF16;
  if (dtype == "F32") return ValueType::kF32;
  return std::nullopt;
}

absl::string_view ValueDtypes(ModelFamily family) {
  switch (family) {
    case ModelFamily::kV41:
      return "F8_E4M3, U8 or I8";
    case ModelFamily::kPaper:
      return "BF16, F16 or F32";
    case ModelFamily::kPle:
      return "F8_E4M3, BF16, F16 or F32";
  }
  return "";
}

class Assembler {
 public:
  Assembler(const std::string& directory, const ModelConfig& config, const Geometry& geometry)
      : directory_(directory), config_(config), geometry_(geometry) {}

  absl::Status Add(TensorPlace place) {
    const TableName name = *ParseName(config_.family, place.name);
    if (!geometry_.LayerIndex(name.layer).ok()) {
      return Complain(place, absl::StrCat("is a table of layer ", name.layer,
                                          ", which the configuration does not list"));
    }
    Half& half = found_[{name.layer, name.is_scale}];
    // A whole table beside a part of one is a second table, too.
    const uint32_t part = name.part.value_or(0);
    const auto same = half.parts.find(part);
    const bool mixed = !half.parts.empty() && half.whole != !name.part.has_value();
    if (same != half.parts.end() || mixed) {
      const TensorPlace& other = mixed ? half.parts.begin()->second : same->second;
      return Complain(place, absl::StrCat("is a second table of layer ", name.layer, " beside `",
                                          other.name, "` of ", other.file));
    }
    half.whole = !name.part.has_value();
    half.parts.emplace(part, std::move(place));
    return absl::OkStatus();
  }

  absl::StatusOr<TableTensors> Finish() && {
    TableTensors tables;
    for (const LayerGeometry& layer : geometry_.layers()) {
      LayerTensors tensors{layer.layer_id, {}};
      ASSIGN_OR_RETURN(RowField values, Values(layer));
      tensors.fields.push_back(std::move(values));
      if (layout_.scale_type != ScaleType::kNone) {
        ASSIGN_OR_RETURN(RowField scales, Scales(layer));
        tensors.fields.push_back(std::move(scales));
      }
      tables.layers.push_back(std::move(tensors));
    }
    tables.layout = layout_;
    return tables;
  }

 private:
  // A table's values or its scales, in parts by their number.
  struct Half {
    bool whole = false;
    std::map<uint32_t, TensorPlace> parts;
  };

  absl::Status Complain(const TensorPlace& place, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(directory_, "/", place.file, ": tensor `", place.name, "` ", what));
  }

  absl::StatusOr<Half> Take(uint32_t layer, bool is_scale) {
    Half half = std::move(found_[{layer, is_scale}]);
    if (!half.parts.empty()) return half;
    return absl::InvalidArgumentError(absl::StrCat(
        directory_, ": tensor `", NameOf(config_.family, layer, is_scale), "` is missing"));
  }

  absl::StatusOr<RowField> Values(const LayerGeometry& layer) {
    ASSIGN_OR_RETURN(Half half, Take(layer.layer_id, false));
    for (const auto& [number, place] : half.parts) RETURN_IF_ERROR(SettleLayout(place));
    RowField field;
    field.row_bytes = field.file_row_bytes = layout_.value_bytes();
    ASSIGN_OR_RETURN(field.pieces, Pieces(layer, std::move(half), layout_.values));
    return field;
  }

  // The first tensor's type is the table's; all others must agree.
  absl::Status SettleLayout(const TensorPlace& place) {
    const std::optional<ValueType> type = ValueTypeOf(config_.family, place.dtype);
    if (!type.has_value()) {
      return Complain(place, absl::StrCat("is ", place.dtype, "; a table of such a model is ",
                                          ValueDtypes(config_.family)));
    }
    if (layout_.values == 0) {
      layout_ = config_.family == ModelFamily::kV41
                    ? PackedFp8Layout(config_.row_values)
                    : RowLayout{*type, config_.row_values, ScaleType::kNone, 0};
      settled_by_ = place.name;
      return layout_.Validate();
    }
    if (*type == layout_.value_type) return absl::OkStatus();
    return Complain(
        place, absl::StrCat("is ", place.dtype, ", but `", settled_by_, "` of the same table is ",
                            ValueTypeName(layout_.value_type)));
  }

  absl::StatusOr<RowField> Scales(const LayerGeometry& layer) {
    ASSIGN_OR_RETURN(Half half, Take(layer.layer_id, true));
    const TensorPlace& place = half.parts.begin()->second;
    RowField field;
    field.row_offset = layout_.value_bytes();
    field.row_bytes = field.file_row_bytes = layout_.scales;
    if (place.dtype == "F32") {
      field.conversion = Conversion::kF32ToUe8m0;
      field.file_row_bytes *= 4;
    } else if (place.dtype != "F8_E8M0" && place.dtype != "U8" && place.dtype != "I8") {
      return Complain(place,
                      absl::StrCat("is ", place.dtype, "; scales are F8_E8M0, U8, I8 or F32 here"));
    }
    ASSIGN_OR_RETURN(field.pieces, Pieces(layer, std::move(half), layout_.scales));
    return field;
  }

  // The half's tensors one below the other; together they have the layer's rows.
  absl::StatusOr<std::vector<TensorPiece>> Pieces(const LayerGeometry& layer, Half half,
                                                  uint64_t width) const {
    std::vector<TensorPiece> pieces;
    uint64_t rows = 0;
    for (auto& [number, place] : half.parts) {
      if (!half.whole && number != pieces.size()) {
        return absl::InvalidArgumentError(absl::StrCat(directory_, ": part ", pieces.size(),
                                                       " of the table of layer ", layer.layer_id,
                                                       " is missing before `", place.name, "`"));
      }
      const bool fits =
          place.shape.size() == 2 && place.shape[1] == width && place.shape[0] <= layer.rows - rows;
      if (!fits || (half.whole && place.shape[0] != layer.rows)) {
        return Complain(
            place, absl::StrCat("has shape [", absl::StrJoin(place.shape, ", "),
                                "], but the configuration gives [", half.whole ? "" : "at most ",
                                layer.rows - rows, ", ", width, "]"));
      }
      const uint64_t count = place.shape[0];
      pieces.push_back({std::move(place), rows, count});
      rows += count;
    }
    if (rows != layer.rows) {
      return absl::InvalidArgumentError(absl::StrCat(
          directory_, ": the ", pieces.size(), " parts of the table of layer ", layer.layer_id,
          " have ", rows, " rows, but the configuration gives ", layer.rows));
    }
    return pieces;
  }

  const std::string& directory_;
  const ModelConfig& config_;
  const Geometry& geometry_;
  std::map<std::pair<uint32_t, bool>, Half> found_;  // by (layer, is it the scale)
  RowLayout layout_;
  std::string settled_by_;
};

}  // namespace

bool IsTableTensor(ModelFamily family, absl::string_view name) {
  return ParseName(family, name).has_value();
}

absl::StatusOr<TableTensors> AssembleTables(const std::string& directory, const ModelConfig& config,
                                            const Geometry& geometry,
                                            std::vector<TensorPlace> places) {
  Assembler assembler(directory, config, geometry);
  for (TensorPlace& place : places) RETURN_IF_ERROR(assembler.Add(std::move(place)));
  return std::move(assembler).Finish();
}

}  // namespace engram

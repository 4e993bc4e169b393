#include "proto/describe.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {

void ToMessage(const Geometry& geometry, v1::Geometry* message) {
  const GeometryParams& params = geometry.params();
  message->mutable_layer_ids()->Add(params.layer_ids.begin(), params.layer_ids.end());
  message->set_max_ngram(params.max_ngram);
  message->set_heads(params.heads);
  message->mutable_bucket_floors()->Add(params.bucket_floors.begin(), params.bucket_floors.end());
  message->set_seed(params.seed);
  message->set_compressed_vocab(params.compressed_vocab);
  message->set_pad_token(params.pad_token);
  for (const LayerGeometry& layer : geometry.layers()) message->add_rows_per_layer(layer.rows);
  message->set_hash_rule(static_cast<v1::HashRule>(params.rule));
  message->set_row_multiple(params.row_multiple);
}

void ToMessage(const RowLayout& layout, v1::RowLayout* message) {
  message->set_value_type(static_cast<v1::ValueType>(layout.value_type));
  message->set_values(layout.values);
  message->set_scale_type(layout.scale_type == ScaleType::kUe8m0 ? v1::SCALE_TYPE_UE8M0
                                                                 : v1::SCALE_TYPE_NONE);
  message->set_scales(layout.scales);
  message->set_row_bytes(layout.row_bytes());
}

void ToMessage(const TokenMap& map, bool with_ids, v1::TokenMap* message) {
  message->set_sha256(map.sha256().data(), map.sha256().size());
  message->set_tokens(map.tokens());
  message->set_compressed_vocab(map.compressed_count());
  if (with_ids) message->set_compressed_ids(map.Serialize());
}

void ToMessage(const std::vector<RowRange>& ranges, v1::Generation* message) {
  for (const RowRange& range : ranges) {
    v1::RowRange* out = message->add_ranges();
    out->set_layer(range.layer);
    out->set_begin(range.begin);
    out->set_end(range.end);
  }
}

absl::StatusOr<Geometry> GeometryFromMessage(const v1::Geometry& message) {
  GeometryParams params;
  params.layer_ids.assign(message.layer_ids().begin(), message.layer_ids().end());
  params.max_ngram = message.max_ngram();
  params.heads = message.heads();
  params.bucket_floors.assign(message.bucket_floors().begin(), message.bucket_floors().end());
  params.seed = message.seed();
  params.compressed_vocab = message.compressed_vocab();
  params.pad_token = message.pad_token();
  params.rule = static_cast<HashRule>(message.hash_rule());
  params.row_multiple = std::max<uint64_t>(1, message.row_multiple());
  return Geometry::Derive(params, std::vector<uint64_t>(message.rows_per_layer().begin(),
                                                        message.rows_per_layer().end()));
}

absl::StatusOr<RowLayout> RowLayoutFromMessage(const v1::RowLayout& message) {
  RowLayout layout;
  // Before it is cut to the byte of our type.
  if (!v1::ValueType_IsValid(message.value_type())) {
    return absl::InvalidArgumentError("row layout has an unknown value type");
  }
  layout.value_type = static_cast<ValueType>(message.value_type());
  layout.values = message.values();
  if (message.scale_type() != v1::SCALE_TYPE_NONE && message.scale_type() != v1::SCALE_TYPE_UE8M0) {
    return absl::InvalidArgumentError("row layout has an unknown scale type");
  }
  layout.scale_type =
      message.scale_type() == v1::SCALE_TYPE_UE8M0 ? ScaleType::kUe8m0 : ScaleType::kNone;
  layout.scales = message.scales();
  RETURN_IF_ERROR(layout.Validate());
  if (layout.row_bytes() != message.row_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("row layout of ", layout.row_bytes(),
                                                   " bytes is said to have ", message.row_bytes()));
  }
  return layout;
}

absl::StatusOr<TokenMap> TokenMapFromMessage(const v1::TokenMap& message) {
  ASSIGN_OR_RETURN(TokenMap map, TokenMap::Parse(message.compressed_ids()));
  const Sha256& hash = map.sha256();
  if (!std::equal(hash.begin(), hash.end(), message.sha256().begin(), message.sha256().end(),
                  [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); })) {
    return absl::InvalidArgumentError("token map does not have the SHA-256 that came with it");
  }
  return map;
}

absl::StatusOr<std::vector<RowRange>> RangesFromMessage(const Geometry& geometry,
                                                        const v1::Generation& message) {
  std::vector<RowRange> ranges;
  for (const v1::RowRange& range : message.ranges()) {
    ranges.push_back({range.layer(), range.begin(), range.end()});
  }
  RETURN_IF_ERROR(ValidateRanges(geometry, ranges));
  return ranges;
}

}  // namespace engram

#include "proto/describe.h"

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

}  // namespace engram

// What the C ABI says of a client's table.
#include "client/c/handles.h"
#include "client/c/status.h"
#include "client/c/structs.h"
#include "proto/base/status_macros.h"

using engram::Call;
using engram::CheckNotNull;

engram_status* engram_client_table(const engram_client* client, engram_table_info* info) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    const engram::Geometry& geometry = client->client->geometry();
    const engram::GeometryParams& params = geometry.params();
    const engram::RowLayout& layout = client->client->layout();
    const engram::TokenMap* const map = client->client->token_map();
    engram_table_info table = ENGRAM_TABLE_INFO_INIT;
    table.model = client->client->model().c_str();
    table.digest = client->digest.c_str();
    table.layers = params.layer_ids.data();
    table.layer_count = params.layer_ids.size();
    table.total_rows = geometry.total_rows();
    table.columns = geometry.columns();
    table.max_ngram = params.max_ngram;
    table.heads = params.heads;
    table.row_bytes = layout.row_bytes();
    table.value_type = static_cast<int32_t>(layout.value_type);
    table.values = layout.values;
    table.value_bytes = layout.value_bytes();
    table.scale_type = static_cast<int32_t>(layout.scale_type);
    table.scales = layout.scales;
    table.hash_rule = static_cast<int32_t>(params.rule);
    table.pad_token = params.pad_token;
    table.compressed_vocab = params.compressed_vocab;
    table.token_map_tokens = map == nullptr ? 0 : map->tokens();
    table.seed = params.seed;
    return engram::WriteStruct(table, "info", info);
  });
}

engram_status* engram_client_layer(const engram_client* client, uint32_t layer,
                                   engram_layer_info* info) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    ASSIGN_OR_RETURN(const size_t index, client->client->geometry().LayerIndex(layer));
    const engram::LayerGeometry& geometry = client->client->geometry().layers()[index];
    engram_layer_info found = ENGRAM_LAYER_INFO_INIT;
    found.layer = layer;
    found.column_count = client->client->geometry().columns();
    found.rows = geometry.rows;
    found.column_first = client->columns[index].first.data();
    found.column_rows = client->columns[index].rows.data();
    found.multipliers = geometry.multipliers.data();
    found.multiplier_count = geometry.multipliers.size();
    return engram::WriteStruct(found, "info", info);
  });
}

engram_status* engram_client_token_map(const engram_client* client, const uint32_t** compressed,
                                       size_t* tokens) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(compressed, "compressed"));
    RETURN_IF_ERROR(CheckNotNull(tokens, "tokens"));
    const engram::TokenMap* const map = client->client->token_map();
    if (map == nullptr) return absl::NotFoundError("the servers have no token map");
    *compressed = map->compressed().data();
    *tokens = map->compressed().size();
    return absl::OkStatus();
  });
}

engram_status* engram_client_missing_ranges(const engram_client* client, engram_range_fn visit,
                                            void* user) {
  return Call([&]() -> absl::Status {
    RETURN_IF_ERROR(CheckNotNull(client, "client"));
    RETURN_IF_ERROR(CheckNotNull(reinterpret_cast<const void*>(visit), "visit"));
    for (const engram::RowRange& range : client->client->MissingRanges()) {
      visit(user, range.layer, range.begin, range.end);
    }
    return absl::OkStatus();
  });
}

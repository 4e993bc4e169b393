#include "deploy/engramctl/layout_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/shard_layout.h"
#include "proto/shard_map.h"

namespace engram {
namespace {

using Shards = std::vector<std::vector<RowRange>>;

absl::StatusOr<Shards> ShardsOf(const Geometry& geometry, const LayoutFlags& flags) {
  if (!flags.shard_map.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.shard_map, kMaxShardMapBytes));
    ASSIGN_OR_RETURN(const ShardMap map, ShardMap::Parse(text, flags.shard_map));
    return map.Ranges(geometry);
  }
  if (flags.shards > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat("--shards ", flags.shards, ": at most ", kMaxShards, " are accepted"));
  }
  Shards shards;
  for (uint32_t i = 0; i < flags.shards; ++i) {
    shards.push_back(ShardRanges(geometry, {i, flags.shards}));
  }
  return shards;
}

double Gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

absl::StatusOr<Json> LayoutJson(const Geometry& geometry, uint64_t row_bytes,
                                const LayoutFlags& flags) {
  // What a server holds beside its rows: a checksum each, and what the process takes.
  constexpr uint64_t kChecksumBytes = 4;
  constexpr uint64_t kProcessBytes = 64 << 20;
  ASSIGN_OR_RETURN(const Shards shards, ShardsOf(geometry, flags));
  const ShardLayout layout = PlanShardLayout(geometry, shards, flags.batch);
  Json layers = Json::array();
  for (const LayerSpread& spread : layout.layers) {
    layers.push_back({{"layer", spread.layer},
                      {"servers_per_token", spread.shards_per_token},
                      {"servers_per_batch", spread.shards_per_batch},
                      {"largest_share", spread.largest_share}});
  }
  return Json{
      {"shards", shards.size()},
      {"batch", flags.batch},
      {"smallest", {{"rows", layout.smallest_rows}, {"bytes", layout.smallest_rows * row_bytes}}},
      {"largest", {{"rows", layout.largest_rows}, {"bytes", layout.largest_rows * row_bytes}}},
      {"memory_bytes", layout.largest_rows * (row_bytes + kChecksumBytes) + kProcessBytes},
      {"layers", std::move(layers)}};
}

std::string LayoutText(const Json& layout) {
  const auto size = [&](const char* which) {
    return absl::StrFormat("%d rows, %.2f GiB", layout[which]["rows"].get<uint64_t>(),
                           Gib(layout[which]["bytes"]));
  };
  std::string text = absl::StrFormat(
      "shards       %d; the smallest has %s, the largest %s\n"
      "memory       %.2f GiB for a server of the largest\n",
      layout["shards"].get<uint64_t>(), size("smallest"), size("largest"),
      Gib(layout["memory_bytes"]));
  for (const Json& layer : layout["layers"]) {
    absl::StrAppendFormat(
        &text,
        "layer %-6d a token's rows come from %.1f servers, those of %d tokens from %.1f; the "
        "busiest answers %.1f %%\n",
        layer["layer"].get<uint32_t>(), layer["servers_per_token"].get<double>(),
        layout["batch"].get<uint64_t>(), layer["servers_per_batch"].get<double>(),
        100 * layer["largest_share"].get<double>());
  }
  return text;
}

}  // namespace engram

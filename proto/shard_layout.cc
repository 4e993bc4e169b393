#include "proto/shard_layout.h"

#include <algorithm>
#include <cmath>

namespace engram {
namespace {

// The part of the column's rows that lie in the ranges of its layer.
double HeldPart(const HashColumn& column, uint32_t layer, const std::vector<RowRange>& ranges) {
  uint64_t held = 0;
  for (const RowRange& range : ranges) {
    if (range.layer != layer) continue;
    const uint64_t begin = std::max(range.begin, column.offset);
    const uint64_t end = std::min(range.end, column.offset + column.prime);
    if (begin < end) held += end - begin;
  }
  return static_cast<double>(held) / static_cast<double>(column.prime);
}

}  // namespace

ShardLayout PlanShardLayout(const Geometry& geometry,
                            const std::vector<std::vector<RowRange>>& shards, uint64_t batch) {
  ShardLayout layout;
  layout.smallest_rows = UINT64_MAX;
  for (const std::vector<RowRange>& ranges : shards) {
    const uint64_t rows = TotalRows(ranges);
    layout.smallest_rows = std::min(layout.smallest_rows, rows);
    layout.largest_rows = std::max(layout.largest_rows, rows);
  }
  for (const LayerGeometry& layer : geometry.layers()) {
    LayerSpread spread{layer.layer_id, 0, 0, 0};
    for (const std::vector<RowRange>& ranges : shards) {
      double spared = 1;
      double asked = 0;
      for (const HashColumn& column : layer.columns) {
        const double part = HeldPart(column, layer.layer_id, ranges);
        spared *= 1 - part;
        asked += part;
      }
      spread.shards_per_token += 1 - spared;
      spread.shards_per_batch += 1 - std::pow(spared, static_cast<double>(batch));
      spread.largest_share =
          std::max(spread.largest_share, asked / static_cast<double>(layer.columns.size()));
    }
    layout.layers.push_back(spread);
  }
  return layout;
}

}  // namespace engram

#include "deploy/sizing/lookup_pool.h"

#include <algorithm>

#include "deploy/sizing/costs.h"

namespace engram::sizing {

LookupPool::LookupPool(const LayerGeometry& layer, uint64_t tokens, double wire_share,
                       uint32_t shards, size_t lookups, std::mt19937_64& random)
    : lookups_(lookups) {
  const auto travels = static_cast<uint64_t>(wire_share * 0x1p32);
  std::vector<uint64_t> rows_of_shard(shards);
  for (DrawnLookup& lookup : lookups_) {
    std::fill(rows_of_shard.begin(), rows_of_shard.end(), 0);
    for (const HashColumn& column : layer.columns) {
      for (uint64_t token = 0; token < tokens; ++token) {
        const uint64_t drawn = random();
        if ((drawn & UINT32_MAX) >= travels) continue;
        const double place = static_cast<double>(drawn >> 32) * 0x1p-32;
        const uint64_t row =
            column.offset + static_cast<uint64_t>(place * static_cast<double>(column.prime));
        ++rows_of_shard[ShardOfRow(row, layer.rows, shards)];
      }
    }
    for (uint32_t shard = 0; shard < shards; ++shard) {
      for (uint64_t rows = rows_of_shard[shard]; rows > 0;) {
        const uint64_t part = std::min(rows, kRowsPerRequest);
        lookup.push_back({shard, static_cast<uint32_t>(part)});
        rows -= part;
      }
    }
  }
}

}  // namespace engram::sizing

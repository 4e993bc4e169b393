// Which servers lookups of a layer ask, and for how many rows: drawn beforehand.
#ifndef ENGRAM_DEPLOY_SIZING_LOOKUP_POOL_H_
#define ENGRAM_DEPLOY_SIZING_LOOKUP_POOL_H_

#include <cstdint>
#include <random>
#include <vector>

#include "proto/geometry.h"

namespace engram::sizing {

// One request: at most kRowsPerRequest rows of one shard.
struct DrawnPart {
  uint32_t shard = 0;
  uint32_t rows = 0;
};
using DrawnLookup = std::vector<DrawnPart>;  // by shard, ascending

// Each token asks each hash column of the layer for one row, each of the column's as likely as any
// other (what a hash is for); of all rows the part `wire_share` travels. Rows lie on equal shards
// as ShardRanges cuts them.
class LookupPool {
 public:
  LookupPool(const LayerGeometry& layer, uint64_t tokens, double wire_share, uint32_t shards,
             size_t lookups, std::mt19937_64& random);

  const DrawnLookup& operator[](size_t i) const { return lookups_[i]; }
  size_t size() const { return lookups_.size(); }

 private:
  std::vector<DrawnLookup> lookups_;
};

// Which of `shards` equal ones holds a row of a layer of `rows` rows.
inline uint32_t ShardOfRow(uint64_t row, uint64_t rows, uint32_t shards) {
  return static_cast<uint32_t>(((row + 1) * shards - 1) / rows);
}

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_LOOKUP_POOL_H_

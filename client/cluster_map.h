// Which servers hold which rows: what all of them said, put together.
#ifndef ENGRAM_CLIENT_CLUSTER_MAP_H_
#define ENGRAM_CLIENT_CLUSTER_MAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "proto/geometry.h"
#include "proto/range_map.h"

namespace engram {

// Rows [begin, end) of a layer, all held by the same servers.
struct Segment {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::vector<size_t> servers;  // ascending; empty: nobody holds these rows
};

// The segments of one layer: sorted, adjacent, from row 0 to the last.
class LayerSegments {
 public:
  explicit LayerSegments(std::vector<Segment> segments);

  const std::vector<Segment>& all() const { return segments_; }

  // The index of the segment that holds `row`, which must be below the layer's rows. Ranges of
  // nearly one size are found by one multiplication, others by halving from there.
  size_t Find(uint64_t row) const {
    __extension__ typedef unsigned __int128 uint128;
    const size_t guess = static_cast<size_t>((static_cast<uint128>(row) * scale_) >> 64);
    const auto holds = [&](size_t i) {
      return segments_[i].begin <= row && row < segments_[i].end;
    };
    if (holds(guess)) return guess;
    if (guess > 0 && holds(guess - 1)) return guess - 1;
    if (guess + 1 < segments_.size() && holds(guess + 1)) return guess + 1;
    return Search(row);
  }

 private:
  size_t Search(uint64_t row) const;

  std::vector<Segment> segments_;
  uint64_t scale_ = 0;  // floor(2^64 * segments / rows)
};

// Immutable. Pure: knows numbers of servers, not whether they live.
class ClusterMap {
 public:
  // held[s] are the ranges of server s, already validated against `geometry`.
  ClusterMap(const Geometry& geometry, const std::vector<std::vector<RowRange>>& held);

  const LayerSegments& layer(size_t layer_index) const { return layers_[layer_index]; }

  // The rows of which no server in `usable` (one flag a server) is a holder, merged.
  std::vector<RowRange> Missing(const std::vector<bool>& usable) const;

 private:
  std::vector<uint32_t> layer_ids_;
  std::vector<LayerSegments> layers_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CLUSTER_MAP_H_

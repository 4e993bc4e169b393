#include "client/cluster_map.h"

#include <algorithm>
#include <set>

namespace engram {
namespace {

std::vector<Segment> CutIntoSegments(uint32_t layer, uint64_t rows,
                                     const std::vector<std::vector<RowRange>>& held) {
  std::set<uint64_t> borders = {0, rows};
  for (const auto& ranges : held) {
    for (const RowRange& range : ranges) {
      if (range.layer == layer) borders.insert({range.begin, range.end});
    }
  }
  std::vector<Segment> segments;
  for (auto it = borders.begin(); std::next(it) != borders.end(); ++it) {
    segments.push_back({*it, *std::next(it), {}});
  }
  for (size_t server = 0; server < held.size(); ++server) {
    for (const RowRange& range : held[server]) {
      if (range.layer != layer) continue;
      auto segment = std::lower_bound(
          segments.begin(), segments.end(), range.begin,
          [](const Segment& candidate, uint64_t row) { return candidate.begin < row; });
      for (; segment != segments.end() && segment->end <= range.end; ++segment) {
        segment->servers.push_back(server);
      }
    }
  }
  return segments;
}

}  // namespace

LayerSegments::LayerSegments(std::vector<Segment> segments) : segments_(std::move(segments)) {
  __extension__ typedef unsigned __int128 uint128;
  // One segment needs no guess (its scale of 2^64 / rows would be as good, but 0 is exact).
  if (segments_.size() > 1) {
    scale_ = static_cast<uint64_t>((static_cast<uint128>(segments_.size()) << 64) /
                                   segments_.back().end);
  }
}

size_t LayerSegments::Search(uint64_t row) const {
  const auto after = std::upper_bound(
      segments_.begin(), segments_.end(), row,
      [](uint64_t value, const Segment& segment) { return value < segment.begin; });
  return static_cast<size_t>(after - segments_.begin()) - 1;
}

ClusterMap::ClusterMap(const Geometry& geometry, const std::vector<std::vector<RowRange>>& held) {
  for (const LayerGeometry& layer : geometry.layers()) {
    layer_ids_.push_back(layer.layer_id);
    layers_.emplace_back(CutIntoSegments(layer.layer_id, layer.rows, held));
  }
}

std::vector<RowRange> ClusterMap::Missing(const std::vector<bool>& usable) const {
  std::vector<RowRange> missing;
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (const Segment& segment : layers_[i].all()) {
      if (std::any_of(segment.servers.begin(), segment.servers.end(),
                      [&](size_t server) { return usable[server]; })) {
        continue;
      }
      if (!missing.empty() && missing.back().layer == layer_ids_[i] &&
          missing.back().end == segment.begin) {
        missing.back().end = segment.end;
      } else {
        missing.push_back({layer_ids_[i], segment.begin, segment.end});
      }
    }
  }
  return missing;
}

}  // namespace engram

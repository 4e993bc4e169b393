#include "storage/range_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// The index of the range that holds `row`; ranges.size() if none does.
size_t FindRange(std::span<const RowRange> ranges, uint64_t row) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), row,
                       [](uint64_t value, const RowRange& range) { return value < range.begin; });
  if (after == ranges.begin() || row >= std::prev(after)->end) return ranges.size();
  return static_cast<size_t>(after - ranges.begin()) - 1;
}

absl::Status Refuse(const RangeIndex::Layer& layer, size_t position, uint64_t row) {
  const std::string which = absl::StrCat("row id ", row, " at position ", position);
  if (row >= layer.rows) {
    return absl::OutOfRangeError(
        absl::StrCat(which, " is not a row of layer ", layer.id, ", which has ", layer.rows));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(which, " of layer ", layer.id, " is not held by this server"));
}

}  // namespace

absl::StatusOr<RangeIndex> RangeIndex::Create(const Geometry& geometry,
                                              std::vector<RowRange> ranges) {
  RETURN_IF_ERROR(ValidateRanges(geometry, ranges));
  std::sort(ranges.begin(), ranges.end(), [](const RowRange& a, const RowRange& b) {
    return a.layer != b.layer ? a.layer < b.layer : a.begin < b.begin;
  });
  RangeIndex index;
  index.ranges_ = std::move(ranges);
  for (const RowRange& range : index.ranges_) {
    index.first_place_.push_back(index.rows_);
    index.rows_ += range.rows();
  }
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    const LayerGeometry& layer = geometry.layers()[i];
    const auto begin = std::find_if(index.ranges_.begin(), index.ranges_.end(),
                                    [&](const RowRange& r) { return r.layer == layer.layer_id; });
    const auto end = std::find_if(begin, index.ranges_.end(),
                                  [&](const RowRange& r) { return r.layer != layer.layer_id; });
    const auto first = static_cast<size_t>(begin - index.ranges_.begin());
    const auto count = static_cast<size_t>(end - begin);
    index.layers_.push_back({layer.layer_id, i, layer.rows,
                             std::span<const RowRange>(index.ranges_).subspan(first, count),
                             std::span<const uint64_t>(index.first_place_).subspan(first, count)});
  }
  return index;
}

const RangeIndex::Layer* RangeIndex::FindLayer(uint32_t id) const {
  const auto it = std::find_if(layers_.begin(), layers_.end(),
                               [id](const Layer& layer) { return layer.id == id; });
  return it == layers_.end() ? nullptr : &*it;
}

uint64_t RangeIndex::PlaceOf(const Layer& layer, uint64_t row) {
  const size_t range = layer.ranges.size() == 1 ? 0 : FindRange(layer.ranges, row);
  return layer.first_place[range] + (row - layer.ranges[range].begin);
}

template <typename Id>
absl::Status RangeIndex::Check(uint32_t id, std::span<const Id> rows) const {
  const Layer* layer = FindLayer(id);
  if (layer == nullptr) {
    return absl::NotFoundError(absl::StrCat("layer ", id, " has no table here"));
  }
  // Short ids against a range beyond them would wrap into it: those take the careful pass.
  if (layer->ranges.size() == 1 && layer->ranges[0].end <= kNoRowId<Id>) {
    // One range: a pass without branches, which the compiler turns into vector compares. An id
    // below `begin` wraps to a huge difference.
    const Id begin = static_cast<Id>(layer->ranges[0].begin);
    const Id count = static_cast<Id>(layer->ranges[0].rows());
    uint32_t bad = 0;
    for (const Id row : rows) {
      bad |= static_cast<uint32_t>(static_cast<Id>(row - begin) >= count) &
             static_cast<uint32_t>(row != kNoRowId<Id>);
    }
    if (bad == 0) return absl::OkStatus();
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != kNoRowId<Id> && FindRange(layer->ranges, rows[i]) == layer->ranges.size()) {
      return Refuse(*layer, i, rows[i]);
    }
  }
  return absl::OkStatus();
}

template absl::Status RangeIndex::Check(uint32_t, std::span<const uint32_t>) const;
template absl::Status RangeIndex::Check(uint32_t, std::span<const uint64_t>) const;

}  // namespace engram

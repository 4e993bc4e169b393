// Which of a layer's rows a store keeps, and in what place: what every store does with row ids.
#ifndef ENGRAM_STORAGE_RANGE_INDEX_H_
#define ENGRAM_STORAGE_RANGE_INDEX_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/range_map.h"

namespace engram {

// "No row" on the wire and in a gather: gives a row of zeros (and the checksum of zeros).
template <typename Id>
inline constexpr Id kNoRowId = static_cast<Id>(~Id{0});
inline constexpr uint32_t kNoRow32 = kNoRowId<uint32_t>;
inline constexpr uint64_t kNoRow64 = kNoRowId<uint64_t>;

// Immutable. `Id` is uint32_t or uint64_t throughout.
class RangeIndex {
 public:
  // A layer's ranges, and the places of their rows: rows are kept range by range, in order, so a
  // layer's rows lie together.
  struct Layer {
    uint32_t id = 0;
    size_t index = 0;                       // into Geometry::layers()
    uint64_t rows = 0;                      // of the whole layer
    std::span<const RowRange> ranges;       // sorted
    std::span<const uint64_t> first_place;  // of each range
  };

  // Sorts the ranges by (layer, begin). InvalidArgument as ValidateRanges.
  static absl::StatusOr<RangeIndex> Create(const Geometry& geometry, std::vector<RowRange> ranges);
  RangeIndex(RangeIndex&&) = default;  // moves vectors, whose elements stay where they are
  RangeIndex(const RangeIndex&) = delete;

  const std::vector<RowRange>& ranges() const { return ranges_; }
  uint64_t rows() const { return rows_; }

  // null: the table has no such layer.
  const Layer* FindLayer(uint32_t id) const;

  // The place of a row that Check has passed, 0 <= place < rows().
  static uint64_t PlaceOf(const Layer& layer, uint64_t row);

  // As RowStore::Check.
  template <typename Id>
  absl::Status Check(uint32_t layer, std::span<const Id> rows) const;

 private:
  RangeIndex() = default;

  std::vector<RowRange> ranges_;
  std::vector<uint64_t> first_place_;  // of each range
  std::vector<Layer> layers_;          // every layer of the geometry
  uint64_t rows_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_RANGE_INDEX_H_

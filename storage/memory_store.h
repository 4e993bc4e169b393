// Rows in memory: one arena of rows, one array of their checksums.
#ifndef ENGRAM_STORAGE_MEMORY_STORE_H_
#define ENGRAM_STORAGE_MEMORY_STORE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "storage/arena.h"
#include "storage/row_store.h"

namespace engram {

// Filled once through Slot before anything is gathered; after that read-only.
class MemoryStore final : public RowStore {
 public:
  // An empty store for `ranges` (checked as ValidateRanges does). ResourceExhausted as Arena.
  static absl::StatusOr<std::unique_ptr<MemoryStore>> Create(const Geometry& geometry,
                                                             const RowLayout& layout,
                                                             std::vector<RowRange> ranges);

  // Where rows [begin, begin + n) of ranges()[range] are kept: their bytes, one behind the other,
  // and their checksums. For filling; distinct rows may be filled by distinct threads.
  struct Place {
    uint8_t* rows;
    uint32_t* checksums;
  };
  Place PlaceOf(size_t range, uint64_t begin);

  const RowLayout& layout() const override { return layout_; }
  const std::vector<RowRange>& ranges() const override { return ranges_; }
  uint64_t bytes() const override { return rows_.bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override;
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;

 private:
  // A layer's ranges: ranges_[first .. first + count).
  struct Layer {
    uint32_t id = 0;
    uint64_t rows = 0;  // of the whole layer
    size_t first = 0;
    size_t count = 0;
  };

  MemoryStore(const Geometry& geometry, const RowLayout& layout, std::vector<RowRange> ranges,
              Arena rows, Arena checksums);

  const Layer* FindLayer(uint32_t id) const;
  // The range of `layer` that holds `row`; null if none does.
  const RowRange* FindRange(const Layer& layer, uint64_t row) const;
  template <typename Id>
  absl::Status CheckIds(uint32_t layer, std::span<const Id> rows) const;
  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;
  absl::Status Refuse(const Layer& layer, size_t position, uint64_t row) const;

  const RowLayout layout_;
  const std::vector<RowRange> ranges_;  // sorted by (layer, begin)
  std::vector<uint64_t> first_row_;     // of each range: rows in the arena before it
  std::vector<Layer> layers_;           // every layer of the geometry
  const Arena rows_;
  const Arena checksums_;
  uint32_t zero_checksum_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_STORE_H_

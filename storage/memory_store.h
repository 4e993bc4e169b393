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

// Filled once through PlaceOf before anything is gathered; after that read-only.
class MemoryStore final : public RowStore {
 public:
  // An empty store for `ranges` (checked as ValidateRanges does). ResourceExhausted as Arena.
  static absl::StatusOr<std::unique_ptr<MemoryStore>> Create(const Geometry& geometry,
                                                             const RowLayout& layout,
                                                             std::vector<RowRange> ranges);

  // Where the rows from `row` of `layer` on are kept, to the end of their range: their bytes, one
  // behind the other (zeros at first), and their checksums. For filling; distinct rows may be
  // filled by distinct threads. The row must be one that the store is for.
  struct Place {
    uint8_t* rows;
    uint32_t* checksums;
  };
  Place PlaceOf(uint32_t layer, uint64_t row) const;

  const RowLayout& layout() const override { return layout_; }
  const std::vector<RowRange>& ranges() const override { return index_.ranges(); }
  uint64_t bytes() const override { return rows_.bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override;
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override;
  // `checksums`: as computed at load.
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  // Against the checksums.
  absl::Status Verify(const RowRange& rows) const override;

 private:
  MemoryStore(const RowLayout& layout, RangeIndex index, Arena rows, Arena checksums);

  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;
  uint32_t* kept_checksums() const { return reinterpret_cast<uint32_t*>(checksums_.data()); }

  const RowLayout layout_;
  const RangeIndex index_;
  const Arena rows_;
  const Arena checksums_;
  const uint32_t zero_checksum_;
};

// CRC32C of a row of zeros.
uint32_t ZeroRowChecksum(const RowLayout& layout);

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_STORE_H_

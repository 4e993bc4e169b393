// Rows in memory, and an array of their checksums: the process's own, or a file's that outlives it.
#ifndef ENGRAM_STORAGE_MEMORY_STORE_H_
#define ENGRAM_STORAGE_MEMORY_STORE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "proto/geometry.h"
#include "storage/arena.h"
#include "storage/arena_file.h"
#include "storage/row_store.h"

namespace engram {

// Filled once through PlaceOf before anything is gathered; after that read-only but for Replace.
class MemoryStore final : public RowStore {
 public:
  // An empty store for `ranges` (checked as ValidateRanges does). ResourceExhausted as Arena.
  static absl::StatusOr<std::unique_ptr<MemoryStore>> Create(const Geometry& geometry,
                                                             const RowLayout& layout,
                                                             std::vector<RowRange> ranges);
  // The same in a file of these very ranges, which has been allocated, or is complete. A row that
  // differs from its checksum marks the file as damaged.
  static absl::StatusOr<std::unique_ptr<MemoryStore>> Create(const Geometry& geometry,
                                                             const RowLayout& layout,
                                                             std::vector<RowRange> ranges,
                                                             std::shared_ptr<ArenaFile> file);

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
  uint64_t bytes() const override { return index_.rows() * layout_.row_bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override;
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override;
  // `checksums`: as computed at load. DataLoss: somebody has cut the file.
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  // Against the checksums.
  absl::Status Verify(const RowRange& rows) const override;
  // Not in an arena file, whose rows are those of the digest that it is known by.
  absl::Status Fold(ManyChangedRows changed, const Sha256& target,
                    absl::FunctionRef<bool()> stop) const override;

 private:
  // Where rows and checksums are, and what they live in: two arenas, or a file.
  struct Memory {
    uint8_t* rows = nullptr;
    uint32_t* checksums = nullptr;
    std::vector<Arena> arenas;
    std::shared_ptr<ArenaFile> file;
  };

  MemoryStore(const RowLayout& layout, RangeIndex index, Memory memory);

  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;
  // OK, or the failure that state() now has, also for who opens the file next.
  absl::Status CheckFile() const;
  absl::Status FailFile(const absl::Status& why) const;

  const RowLayout layout_;
  const RangeIndex index_;
  const Memory memory_;
  const uint32_t zero_checksum_;
  mutable Mutex fold_;  // of Fold and Verify
};

// CRC32C of a row of zeros.
uint32_t ZeroRowChecksum(const RowLayout& layout);

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_STORE_H_

// The rows of a delta in memory, and which they are.
#ifndef ENGRAM_STORAGE_CHANGED_ROWS_H_
#define ENGRAM_STORAGE_CHANGED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/status_macros.h"
#include "storage/arena.h"
#include "storage/delta_file.h"

namespace engram {

// Which rows of a layer are changed, and the place of each among them. Immutable.
//
// A bit for every 2^n rows of the layer says whether one of them is changed: of a request's rows
// nearly all are passed by with that, many at once. The others are looked for among the ids, from
// where a directory by id says. Both grow with the changed rows, not with the layer: 8 bytes of id,
// 8 of bits and 2 of directory a row at most.
class ChangedIndex {
 public:
  explicit ChangedIndex(std::vector<uint64_t> rows);  // ascending

  const std::vector<uint64_t>& rows() const { return rows_; }
  uint64_t bytes() const;

  // Rows that FindSome looks at at a time.
  static constexpr size_t kAtOnce = 1024;
  struct Hit {
    uint32_t position;  // into the ids
    uint64_t index;     // into rows()
  };
  // Of `ids` [at most kAtOnce], those that are changed, ascending by position, to `hits` [as many];
  // their number. "No row" is none. `Id` is uint32_t or uint64_t.
  template <typename Id>
  size_t FindSome(std::span<const Id> ids, Hit* hits) const;

  // The index of the first changed row that is not below `row`.
  size_t LowerBound(uint64_t row) const;

 private:
  template <typename Id, typename Mask>
  size_t FindBlocks(std::span<const Id> ids, Hit* hits, Mask mask) const;
  std::optional<uint64_t> Find(uint64_t row) const;

  std::vector<uint64_t> rows_;
  uint64_t first_ = 0;  // of the rows
  uint64_t last_ = 0;   // of them, less first_
  uint32_t bit_shift_ = 0;
  uint32_t last_bit_ = 0;  // the one behind it is 0: of what lies beyond
  std::vector<uint32_t> bits_;
  uint32_t directory_shift_ = 0;
  std::vector<uint32_t> directory_;  // the first index of each 2^directory_shift_ rows; the end
};

// Immutable once loaded.
class ChangedRows {
 public:
  struct Layer {
    uint32_t id = 0;
    ChangedIndex index;
    const uint8_t* rows;              // [index.rows().size(), row_bytes], row-major
    std::vector<uint32_t> checksums;  // of each
  };

  // Reads the delta to its end. `check` is called with rows of one layer at a time and may refuse
  // them. DataLoss as DeltaReader; ResourceExhausted as Arena.
  template <typename CheckRows>
  static absl::StatusOr<std::shared_ptr<const ChangedRows>> Load(DeltaReader& delta,
                                                                 CheckRows check) {
    ASSIGN_OR_RETURN(Loader loader, Loader::Create(delta.header()));
    std::vector<DeltaRow> batch;
    while (true) {
      ASSIGN_OR_RETURN(const std::optional<DeltaRow> row, delta.Next());
      if (!batch.empty() && (!row.has_value() || batch.size() == kBatchRows ||
                             row->layer_index != batch[0].layer_index)) {
        RETURN_IF_ERROR(check(std::span<const DeltaRow>(batch)));
        batch.clear();
      }
      if (!row.has_value()) return std::move(loader).Finish();
      batch.push_back(loader.Add(*row));
    }
  }

  uint32_t row_bytes() const { return row_bytes_; }
  const std::vector<Layer>& layers() const { return layers_; }  // that have any
  // null: none of its rows is changed.
  const Layer* FindLayer(uint32_t id) const;
  uint64_t rows() const { return total_rows_; }
  uint64_t memory_bytes() const;  // rows, checksums and what finds them

 private:
  static constexpr size_t kBatchRows = 512;

  class Loader {
   public:
    static absl::StatusOr<Loader> Create(const DeltaHeader& header);
    DeltaRow Add(const DeltaRow& row);  // the same, its bytes where they stay
    std::shared_ptr<const ChangedRows> Finish() &&;

   private:
    Loader(const DeltaHeader& header, Arena arena) : header_(header), arena_(std::move(arena)) {}

    const DeltaHeader& header_;
    Arena arena_;
    uint64_t taken_ = 0;
    std::vector<std::vector<uint64_t>> ids_;  // by layer
    std::vector<std::vector<uint32_t>> checksums_;
  };

  ChangedRows(uint32_t row_bytes, Arena arena) : row_bytes_(row_bytes), arena_(std::move(arena)) {}

  const uint32_t row_bytes_;
  const Arena arena_;
  std::vector<Layer> layers_;
  uint64_t total_rows_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_CHANGED_ROWS_H_

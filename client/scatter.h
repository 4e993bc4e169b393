// Rows off the wire -> their places in the caller's buffer.
#ifndef ENGRAM_CLIENT_SCATTER_H_
#define ENGRAM_CLIENT_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "client/row_target.h"
#include "client/shard_plan.h"
#include "proto/base/isa.h"

namespace engram {

// Copies the first `bytes` bytes of row i of `rows` [count, row_bytes] to out + places[i] * bytes.
// Pure. `isa` must be one of SupportedIsas().
void ScatterRows(const uint8_t* rows, size_t row_bytes, size_t bytes, const uint32_t* places,
                 size_t count, uint8_t* out, Isa isa = BestIsa());

// Takes the bytes of a request's rows in order, in chunks cut anywhere, and copies each row once,
// or wherever else it is wanted. Not thread-safe.
class RowScatter {
 public:
  // Row i of `rows` goes to position positions[i] of the target; without positions (null) to
  // position first + i. Borrows both.
  RowScatter(const uint32_t* positions, size_t first, size_t rows, const RowTarget& target)
      : positions_(positions), first_(first), rows_(rows), target_(target) {}

  // Rows that go elsewhere, too, in the order of the rows: `copies`, borrowed, of rows counted from
  // `first`; those for the cache to cache_rows [slots' rows, row_bytes]. Before any Append.
  void SetCopies(std::span<const RowCopy> copies, uint8_t* cache_rows) {
    copies_ = copies;
    cache_rows_ = cache_rows;
  }

  // False, and nothing is copied, if that were more bytes than the rows have.
  bool Append(const uint8_t* data, size_t size);
  // Counts bytes as taken that are not wanted any more.
  bool Skip(size_t size) {
    if (size > bytes_left()) return false;
    bytes_done_ += size;
    return true;
  }

  // A row that has been taken, from its place; `out` [row_bytes].
  void ReadBack(size_t row, uint8_t* out) const { target_.ReadRow(PositionOf(row), out); }

  uint64_t bytes_left() const { return rows_ * target_.row_bytes - bytes_done_; }

 private:
  uint32_t PositionOf(size_t row) const {
    return positions_ != nullptr ? positions_[row] : static_cast<uint32_t>(first_ + row);
  }
  void Scatter(const uint8_t* data, size_t size);
  void CopyWhole(const uint8_t* data, size_t row, size_t count) const;
  void StreamRuns(const uint8_t* data, const uint32_t* positions, size_t count) const;
  // Copies that are due, from `data`, which begins behind `before` of the request's bytes; of rows
  // that began earlier, from their places.
  void CopyOn(const uint8_t* data, uint64_t before);

  const uint32_t* const positions_;
  const size_t first_;
  const size_t rows_;
  const RowTarget& target_;
  uint64_t bytes_done_ = 0;
  std::span<const RowCopy> copies_;  // that are not made yet
  uint8_t* cache_rows_ = nullptr;
  std::vector<uint8_t> cut_;  // scratch
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SCATTER_H_

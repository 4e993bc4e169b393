// Rows off the wire -> their places in the caller's buffer.
#ifndef ENGRAM_CLIENT_SCATTER_H_
#define ENGRAM_CLIENT_SCATTER_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

// Copies row i of `rows` [count, row_bytes] to out + positions[i] * row_bytes. Pure. `isa` must be
// one of SupportedIsas().
void ScatterRows(const uint8_t* rows, size_t row_bytes, const uint32_t* positions, size_t count,
                 uint8_t* out, Isa isa = BestIsa());

// Takes the bytes of a request's rows in order, in chunks cut anywhere, and copies each row once.
// Not thread-safe.
class RowScatter {
 public:
  // Row i of `rows` goes to out + positions[i] * row_bytes; without positions (null) one behind the
  // other. Borrows both.
  RowScatter(const uint32_t* positions, size_t rows, size_t row_bytes, uint8_t* out)
      : positions_(positions), rows_(rows), row_bytes_(row_bytes), out_(out) {}

  // False, and nothing is copied, if that were more bytes than the rows have.
  bool Append(const uint8_t* data, size_t size);
  // Counts bytes as taken that are not wanted any more.
  bool Skip(size_t size) {
    if (size > bytes_left()) return false;
    bytes_done_ += size;
    return true;
  }

  // A row that has been taken, from its place; `out` [row_bytes].
  void ReadBack(size_t row, uint8_t* out) const;

  uint64_t bytes_left() const { return rows_ * row_bytes_ - bytes_done_; }

 private:
  const uint32_t* const positions_;
  const size_t rows_;
  const size_t row_bytes_;
  uint8_t* const out_;
  uint64_t bytes_done_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SCATTER_H_

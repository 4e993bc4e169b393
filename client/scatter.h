// Rows off the wire -> their places in the caller's buffer.
#ifndef ENGRAM_CLIENT_SCATTER_H_
#define ENGRAM_CLIENT_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engram {

// Takes the bytes of a request's rows in order, in chunks cut anywhere, and copies each row once.
// Not thread-safe.
class RowScatter {
 public:
  // Row i of the stream goes to out + positions[i] * row_bytes. Borrows `out`.
  RowScatter(std::vector<uint32_t> positions, size_t row_bytes, uint8_t* out)
      : positions_(std::move(positions)), row_bytes_(row_bytes), out_(out) {}

  // False, and nothing is copied, if that were more bytes than the rows have.
  bool Append(const uint8_t* data, size_t size);

  size_t rows() const { return positions_.size(); }
  uint64_t bytes_left() const { return positions_.size() * row_bytes_ - bytes_done_; }

 private:
  const std::vector<uint32_t> positions_;
  const size_t row_bytes_;
  uint8_t* const out_;
  uint64_t bytes_done_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SCATTER_H_

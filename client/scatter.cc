#include "client/scatter.h"

#include <algorithm>
#include <cstring>

namespace engram {

bool RowScatter::Append(const uint8_t* data, size_t size) {
  if (size > bytes_left()) return false;
  size_t row = bytes_done_ / row_bytes_;
  size_t within = bytes_done_ % row_bytes_;
  bytes_done_ += size;
  if (positions_ == nullptr) {
    if (size > 0) std::memcpy(out_ + row * row_bytes_ + within, data, size);
    return true;
  }
  while (size > 0) {
    const size_t part = std::min(size, row_bytes_ - within);
    std::memcpy(out_ + size_t{positions_[row]} * row_bytes_ + within, data, part);
    data += part;
    size -= part;
    within = 0;
    ++row;
  }
  return true;
}

}  // namespace engram

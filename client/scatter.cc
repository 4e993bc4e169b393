#include "client/scatter.h"

#include <algorithm>
#include <cstring>

namespace engram {
namespace {

struct ScatterJob {
  const uint8_t* rows;
  size_t row_bytes;
  const uint32_t* positions;
  size_t count;
  uint8_t* out;
};

// kRowBytes 0: the size is known at run time alone.
template <size_t kRowBytes, size_t kBlock>
[[gnu::always_inline]] inline void ScatterLoop(const ScatterJob& job) {
  const size_t row_bytes = kRowBytes != 0 ? kRowBytes : job.row_bytes;
  const uint8_t* row = job.rows;
  for (size_t i = 0; i < job.count; ++i, row += row_bytes) {
    uint8_t* const to = job.out + size_t{job.positions[i]} * row_bytes;
    if constexpr (kRowBytes != 0) {
      CopyRow<kRowBytes, kBlock>(to, row);
    } else {
      std::memcpy(to, row, row_bytes);
    }
  }
}

template <size_t kBlock>
[[gnu::always_inline]] inline void Scatter(const ScatterJob& job) {
  WithRowBytes(
      job.row_bytes, [&]<size_t kRowBytes>()
                         __attribute__((always_inline)) { ScatterLoop<kRowBytes, kBlock>(job); });
}

void ScatterPortable(const ScatterJob& job) { Scatter<kBlockPortable>(job); }
ENGRAM_TARGET_AVX2 void ScatterAvx2(const ScatterJob& job) { Scatter<kBlockAvx2>(job); }
ENGRAM_TARGET_AVX512 void ScatterAvx512(const ScatterJob& job) { Scatter<kBlockAvx512>(job); }

}  // namespace

void ScatterRows(const uint8_t* rows, size_t row_bytes, const uint32_t* positions, size_t count,
                 uint8_t* out, Isa isa) {
  const ScatterJob job{rows, row_bytes, positions, count, out};
  switch (isa) {
    case Isa::kPortable:
      return ScatterPortable(job);
    case Isa::kAvx2:
      return ScatterAvx2(job);
    case Isa::kAvx512:
      return ScatterAvx512(job);
  }
}

bool RowScatter::Append(const uint8_t* data, size_t size) {
  if (size > bytes_left()) return false;
  size_t row = bytes_done_ / row_bytes_;
  const size_t within = bytes_done_ % row_bytes_;
  bytes_done_ += size;
  if (positions_ == nullptr) {
    if (size > 0) std::memcpy(out_ + row * row_bytes_ + within, data, size);
    return true;
  }
  const auto copy_part = [&](size_t from, size_t part) {
    std::memcpy(out_ + size_t{positions_[row]} * row_bytes_ + from, data, part);
    data += part;
    size -= part;
  };
  if (within != 0) {  // The rest of a row that was cut.
    const size_t part = std::min(size, row_bytes_ - within);
    copy_part(within, part);
    if (within + part < row_bytes_) return true;
    ++row;
  }
  const size_t whole = size / row_bytes_;
  ScatterRows(data, row_bytes_, positions_ + row, whole, out_);
  data += whole * row_bytes_;
  size -= whole * row_bytes_;
  row += whole;
  if (size > 0) copy_part(0, size);
  return true;
}

void RowScatter::ReadBack(size_t row, uint8_t* out) const {
  const size_t place = positions_ == nullptr ? row : positions_[row];
  std::memcpy(out, out_ + place * row_bytes_, row_bytes_);
}

}  // namespace engram

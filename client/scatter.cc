#include "client/scatter.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace engram {
namespace {

// Rows whose places are computed at once, then copied: their bytes stay in the core's first cache
// where values and scales go apart.
constexpr size_t kPlacesAtOnce = 64;

struct ScatterJob {
  const uint8_t* rows;
  size_t row_bytes;
  size_t bytes;
  const uint32_t* places;
  size_t count;
  uint8_t* out;
};

// kBytes 0: the size is known at run time alone.
template <size_t kBytes, size_t kBlock>
[[gnu::always_inline]] inline void ScatterLoop(const ScatterJob& job) {
  const size_t bytes = kBytes != 0 ? kBytes : job.bytes;
  const uint8_t* row = job.rows;
  for (size_t i = 0; i < job.count; ++i, row += job.row_bytes) {
    uint8_t* const to = job.out + size_t{job.places[i]} * bytes;
    if constexpr (kBytes != 0) {
      CopyRow<kBytes, kBlock>(to, row);
    } else {
      std::memcpy(to, row, bytes);
    }
  }
}

template <size_t kBlock>
[[gnu::always_inline]] inline void Scatter(const ScatterJob& job) {
  WithRowBytes(
      job.bytes, [&]<size_t kBytes>()
                     __attribute__((always_inline)) { ScatterLoop<kBytes, kBlock>(job); });
}

void ScatterPortable(const ScatterJob& job) { Scatter<kBlockPortable>(job); }
ENGRAM_TARGET_AVX2 void ScatterAvx2(const ScatterJob& job) { Scatter<kBlockAvx2>(job); }
ENGRAM_TARGET_AVX512 void ScatterAvx512(const ScatterJob& job) { Scatter<kBlockAvx512>(job); }

}  // namespace

void ScatterRows(const uint8_t* rows, size_t row_bytes, size_t bytes, const uint32_t* places,
                 size_t count, uint8_t* out, Isa isa) {
  const ScatterJob job{rows, row_bytes, bytes, places, count, out};
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
  const uint64_t before = bytes_done_;
  Scatter(data, size);
  if (!copies_.empty()) CopyOn(data, before);
  return true;
}

// Of a copy whose rows do not all belong to this request, the others are another one's.
void RowScatter::CopyOn(const uint8_t* data, uint64_t before) {
  const size_t row_bytes = target_.row_bytes;
  const size_t rows_done = bytes_done_ / row_bytes;
  size_t made = 0;
  for (; made < copies_.size(); ++made) {
    const RowCopy& copy = copies_[made];
    const size_t begin = copy.row < first_ ? 0 : copy.row - first_;
    const size_t end = std::min(copy.end() - first_, rows_);
    if (end > rows_done) break;
    const uint8_t* rows = nullptr;
    if (begin * row_bytes >= before) {
      rows = data + (begin * row_bytes - before);
    } else {  // They were cut.
      cut_.resize((end - begin) * row_bytes);
      for (size_t row = begin; row < end; ++row) {
        target_.ReadRow(PositionOf(row), cut_.data() + (row - begin) * row_bytes);
      }
      rows = cut_.data();
    }
    const auto place = static_cast<uint32_t>(copy.place + (first_ + begin - copy.row));
    if (copy.to == RowCopy::To::kPosition) {
      target_.WriteRows(place, rows, end - begin);
    } else {
      StreamCopy(cache_rows_ + place * row_bytes, rows, (end - begin) * row_bytes);
    }
  }
  copies_ = copies_.subspan(made);
}

void RowScatter::Scatter(const uint8_t* data, size_t size) {
  const size_t row_bytes = target_.row_bytes;
  size_t row = bytes_done_ / row_bytes;
  const size_t within = bytes_done_ % row_bytes;
  bytes_done_ += size;
  if (positions_ == nullptr && target_.in_order() && target_.whole_rows()) {
    return target_.WriteBytes((first_ + row) * row_bytes + within, data, size);
  }
  if (within != 0) {  // The rest of a row that was cut.
    const size_t part = std::min(size, row_bytes - within);
    target_.CopyPart(PositionOf(row), within, data, part);
    data += part;
    size -= part;
    if (within + part < row_bytes) return;
    ++row;
  }
  const size_t whole = size / row_bytes;
  CopyWhole(data, row, whole);
  data += whole * row_bytes;
  size -= whole * row_bytes;
  if (size > 0) target_.CopyPart(PositionOf(row + whole), 0, data, size);
}

// Rows whose places follow each other, as those of an n-gram do, at once: lines are written whole.
void RowScatter::StreamRuns(const uint8_t* data, const uint32_t* positions, size_t count) const {
  for (size_t begin = 0; begin < count;) {
    size_t end = begin + 1;
    while (end < count && positions[end] == positions[end - 1] + 1) ++end;
    target_.WriteRows(positions[begin], data + begin * target_.row_bytes, end - begin);
    begin = end;
  }
}

void RowScatter::CopyWhole(const uint8_t* data, size_t row, size_t count) const {
  const size_t row_bytes = target_.row_bytes;
  const size_t value_bytes = target_.value_bytes;
  if (positions_ != nullptr && target_.in_order() && target_.whole_rows()) {
    if (target_.stream) return StreamRuns(data, positions_ + row, count);
    return ScatterRows(data, row_bytes, row_bytes, positions_ + row, count, target_.values);
  }
  std::array<uint32_t, kPlacesAtOnce> places;
  while (count > 0) {
    const size_t now = std::min(count, kPlacesAtOnce);
    for (size_t i = 0; i < now; ++i) places[i] = target_.PlaceOf(PositionOf(row + i));
    ScatterRows(data, row_bytes, value_bytes, places.data(), now, target_.values);
    if (!target_.whole_rows()) {
      ScatterRows(data + value_bytes, row_bytes, row_bytes - value_bytes, places.data(), now,
                  target_.scales);
    }
    data += now * row_bytes;
    row += now;
    count -= now;
  }
}

}  // namespace engram

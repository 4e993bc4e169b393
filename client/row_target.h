// Where the rows of one layer's lookup go in the caller's memory.
#ifndef ENGRAM_CLIENT_ROW_TARGET_H_
#define ENGRAM_CLIENT_ROW_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "client/stream_copy.h"

namespace engram {

enum class RowOrder : uint8_t {
  kTokenMajor,  // [tokens, columns, row_bytes]
  kHeadMajor,   // [columns, tokens, row_bytes]
};

// Position p of a lookup is column p % columns of token p / columns, whatever the order in memory.
// A position's place is the index of its row in memory: a lookup fills places 0 .. rows - 1 and
// leaves none out. Copyable; owns nothing.
struct RowTarget {
  uint8_t* values = nullptr;  // [places, value_bytes]; whole rows where value_bytes == row_bytes
  uint8_t* scales = nullptr;  // [places, row_bytes - value_bytes]; null where there are none apart
  size_t row_bytes = 0;       // as the row comes from the server: its values, then its scales
  size_t value_bytes = 0;
  RowOrder order = RowOrder::kTokenMajor;
  uint32_t columns = 1;  // these two matter for kHeadMajor alone
  uint32_t tokens = 0;
  // More than caches hold: rows that lie one behind the other are written past them (StreamCopy),
  // and whoever says that they are in place calls StreamFence before.
  bool stream = false;

  // Whole rows, position after position.
  static RowTarget Rows(uint8_t* rows, size_t row_bytes) {
    return {.values = rows, .row_bytes = row_bytes, .value_bytes = row_bytes};
  }

  bool whole_rows() const { return value_bytes == row_bytes; }
  bool in_order() const { return order == RowOrder::kTokenMajor; }
  uint32_t PlaceOf(uint32_t position) const {
    return in_order() ? position : position % columns * tokens + position / columns;
  }

  // Bytes [begin, begin + size) of the row at `position`.
  void CopyPart(uint32_t position, size_t begin, const uint8_t* data, size_t size) const {
    const size_t place = PlaceOf(position);
    const size_t of_values = begin >= value_bytes          ? 0
                             : begin + size <= value_bytes ? size
                                                           : value_bytes - begin;
    if (of_values > 0) std::memcpy(values + place * value_bytes + begin, data, of_values);
    if (of_values < size) {
      const size_t scale = begin + of_values - value_bytes;
      std::memcpy(scales + place * (row_bytes - value_bytes) + scale, data + of_values,
                  size - of_values);
    }
  }

  // The row at `position`, as it came from the server, to `out` [row_bytes].
  void ReadRow(uint32_t position, uint8_t* out) const {
    const size_t place = PlaceOf(position);
    const size_t scale_bytes = row_bytes - value_bytes;
    std::memcpy(out, values + place * value_bytes, value_bytes);
    if (scale_bytes > 0) std::memcpy(out + value_bytes, scales + place * scale_bytes, scale_bytes);
  }

  // `rows` [count, row_bytes], as they came from the server, to positions from `position` on.
  void WriteRows(uint32_t position, const uint8_t* rows, size_t count) const {
    if (in_order() && whole_rows())
      return WriteBytes(position * row_bytes, rows, count * row_bytes);
    for (uint32_t i = 0; i < count; ++i) CopyPart(position + i, 0, rows + i * row_bytes, row_bytes);
  }

  // Of whole rows in order alone: bytes from `begin` of the values on.
  void WriteBytes(size_t begin, const uint8_t* bytes, size_t size) const {
    if (stream) return StreamCopy(values + begin, bytes, size);
    if (size > 0) std::memcpy(values + begin, bytes, size);
  }

  void ZeroRow(uint32_t position) const { ZeroPlaces(PlaceOf(position), 1); }
  void ZeroPlaces(size_t begin, size_t count) const {
    const size_t scale_bytes = row_bytes - value_bytes;
    if (count == 0) return;
    std::memset(values + begin * value_bytes, 0, count * value_bytes);
    if (scale_bytes > 0) std::memset(scales + begin * scale_bytes, 0, count * scale_bytes);
  }
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_ROW_TARGET_H_

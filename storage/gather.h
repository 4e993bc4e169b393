// The gather: rows scattered over a table -> one dense block. The innermost loop of the server.
#ifndef ENGRAM_STORAGE_GATHER_H_
#define ENGRAM_STORAGE_GATHER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace engram {

// Rows to ask the cache for ahead of the one being copied, into L2: 8-14 % on uniform ids; into L1,
// or non-temporal stores, gain nothing or lose.
inline constexpr size_t kPrefetchRows = 32;

namespace internal {

inline void PrefetchRow(const uint8_t* row, size_t row_bytes) {
  for (size_t at = 0; at < row_bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
}

// kRowBytes 0: the size is known at run time alone. A size known to the compiler copies 25-35 %
// faster.
template <size_t kRowBytes, typename Id>
void GatherFixed(const uint8_t* table, size_t run_time_row_bytes, const Id* ids, size_t count,
                 Id base, uint8_t* out) {
  const size_t row_bytes = kRowBytes != 0 ? kRowBytes : run_time_row_bytes;
  constexpr Id kNone = static_cast<Id>(~Id{0});
  for (size_t i = 0; i < count; ++i, out += row_bytes) {
    if (i + kPrefetchRows < count && ids[i + kPrefetchRows] != kNone) {
      PrefetchRow(table + size_t{ids[i + kPrefetchRows] - base} * row_bytes, row_bytes);
    }
    if (ids[i] == kNone) {
      std::memset(out, 0, row_bytes);
    } else {
      std::memcpy(out, table + size_t{ids[i] - base} * row_bytes, row_bytes);
    }
  }
}

}  // namespace internal

// Copies row ids[i] - base of `table` to out + i * row_bytes, for every i; the id of all ones ("no
// row") gives zeros. Every other id must lie in [base, base + rows of the table): this does not
// check. Pure.
template <typename Id>
void GatherRows(const uint8_t* table, size_t row_bytes, const Id* ids, size_t count, Id base,
                uint8_t* out) {
  switch (row_bytes) {
    case 128:
      return internal::GatherFixed<128>(table, row_bytes, ids, count, base, out);
    case 160:
      return internal::GatherFixed<160>(table, row_bytes, ids, count, base, out);
    case 256:
      return internal::GatherFixed<256>(table, row_bytes, ids, count, base, out);
    case 264:
      return internal::GatherFixed<264>(table, row_bytes, ids, count, base, out);
    case 320:
      return internal::GatherFixed<320>(table, row_bytes, ids, count, base, out);
    case 512:
      return internal::GatherFixed<512>(table, row_bytes, ids, count, base, out);
    default:
      return internal::GatherFixed<0>(table, row_bytes, ids, count, base, out);
  }
}

}  // namespace engram

#endif  // ENGRAM_STORAGE_GATHER_H_

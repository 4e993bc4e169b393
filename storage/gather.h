// The gather: rows scattered over a table -> one dense block. The innermost loop of the server.
#ifndef ENGRAM_STORAGE_GATHER_H_
#define ENGRAM_STORAGE_GATHER_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

// Rows to ask the cache for ahead of the one being copied, into L2: 8-14 % on uniform ids; into L1,
// or non-temporal stores, gain nothing or lose.
inline constexpr size_t kPrefetchRows = 32;

[[gnu::always_inline]] inline void PrefetchRow(const uint8_t* row, size_t row_bytes) {
  for (size_t at = 0; at < row_bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
}

// Copies row ids[i] - base of `table` to out + i * row_bytes, for every i; the id of all ones ("no
// row") gives zeros. Every other id must lie in [base, base + rows of the table): this does not
// check. Pure. `Id` is uint32_t or uint64_t; `isa` must be one of SupportedIsas().
template <typename Id>
void GatherRows(const uint8_t* table, size_t row_bytes, const Id* ids, size_t count, Id base,
                uint8_t* out, Isa isa = BestIsa());

}  // namespace engram

#endif  // ENGRAM_STORAGE_GATHER_H_

// The digest of a table generation: what makes "the same table" one comparison.
#ifndef ENGRAM_PROTO_DIGEST_H_
#define ENGRAM_PROTO_DIGEST_H_

#include <cstdint>
#include <optional>

#include "proto/geometry.h"
#include "proto/row_layout.h"
#include "proto/sha256.h"

namespace engram {

// A sum modulo 2^128 of row hashes. Addition commutes, so shards, blocks and threads add up in any
// order, and a changed row is subtracted and added.
class RowSum {
 public:
  RowSum() = default;
  RowSum(uint64_t low, uint64_t high);

  // Adds XXH3-128 of (layer id u32, row id u64, both little-endian, the row's bytes as served);
  // nothing for a row that is all zero bytes, so that holes of sparse files cost nothing.
  void AddRow(uint32_t layer, uint64_t row, const uint8_t* bytes, size_t row_bytes);

  RowSum& operator+=(const RowSum& other);
  RowSum& operator-=(const RowSum& other);
  bool operator==(const RowSum&) const = default;

  uint64_t low() const { return static_cast<uint64_t>(sum_); }
  uint64_t high() const { return static_cast<uint64_t>(sum_ >> 64); }

 private:
  __extension__ unsigned __int128 sum_ = 0;
};

// SHA-256 over the canonical encoding of (geometry, row layout, token map hash or none, sum). The
// encoding: the ASCII bytes "engram-digest-1\n", then little-endian
//   u32 layers, then per layer: u32 id, u64 rows; u32 max n-gram; u32 heads; u32 orders, then u64
//   floor per order; u64 seed; u32 compressed vocabulary; u32 pad token; and, unless the rule is
//   Engram's and the multiple 1, u32 hash rule and u64 row multiple;
//   u32 value type, u32 values, u32 scale type, u32 scales (numbers of proto/row_layout.h);
//   u8 1 and 32 bytes of token map hash, or u8 0;
//   u64 low and u64 high half of the sum.
// It guards against mistakes, not against an adversary.
Sha256 TableDigest(const Geometry& geometry, const RowLayout& layout,
                   const std::optional<Sha256>& token_map, const RowSum& sum);

// Rows per block of the sidecar's sums.
inline constexpr uint64_t kBlockRows = 65536;

}  // namespace engram

#endif  // ENGRAM_PROTO_DIGEST_H_

#include "proto/row_ids.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {
__extension__ typedef unsigned __int128 uint128;

bool IsDead(std::span<const uint8_t> dead, size_t position) {
  return !dead.empty() && dead[position] != 0;
}
}  // namespace

absl::StatusOr<RowHasher> RowHasher::Create(const Geometry& geometry, uint32_t compressed_pad) {
  if (compressed_pad >= geometry.params().compressed_vocab) {
    return absl::InvalidArgumentError(absl::StrCat("compressed pad id ", compressed_pad,
                                                   " is not below the compressed vocabulary of ",
                                                   geometry.params().compressed_vocab));
  }
  RowHasher hasher;
  hasher.orders_ = geometry.params().orders();
  hasher.heads_ = geometry.params().heads;
  hasher.columns_ = geometry.columns();
  hasher.pad_ = compressed_pad;
  hasher.pad_ends_sequence_ = geometry.params().rule == HashRule::kPle;
  for (const LayerGeometry& source : geometry.layers()) {
    Layer layer;
    for (const int64_t m : source.multipliers)
      layer.multipliers.push_back(static_cast<uint64_t>(m));
    for (const HashColumn& column : source.columns) {
      const uint32_t shift = static_cast<uint32_t>(std::bit_width(column.prime)) - 1;
      // The prime 2 is the one power of two: its quotient would need 65 bits, one less is as good
      // (see Modulo).
      const uint128 quotient = (static_cast<uint128>(1) << (64 + shift)) / column.prime;
      const uint64_t reciprocal =
          quotient >> 64 != 0 ? ~uint64_t{0} : static_cast<uint64_t>(quotient);
      layer.columns.push_back({column.prime, column.offset, reciprocal, shift});
    }
    hasher.layers_.push_back(std::move(layer));
  }
  return hasher;
}

// Barrett reduction without a division. With M = floor(2^(64+s) / p) and value < 2^63 the estimate
// q = floor(value M / 2^(64+s)) is the true quotient or one less: value M falls short of
// value 2^(64+s) / p by less than value (by value itself for p = 2, where M is one less), so the
// estimate falls short by less than 2^63 / 2^(64+s) < 1. One conditional subtraction mends it.
// Products of a compressed id and a multiplier, and their xor, are below 2^63 by construction.
inline uint64_t RowHasher::Modulo(uint64_t value, const Column& column) {
  const uint64_t high =
      static_cast<uint64_t>((static_cast<uint128>(value) * column.reciprocal) >> 64);
  const uint64_t remainder = value - (high >> column.shift) * column.prime;
  return std::min(remainder,
                  remainder - column.prime);  // The difference wraps when it is negative.
}

void RowHasher::HashChunk(size_t layer_index, std::span<const uint32_t> compressed,
                          std::span<const uint8_t> dead, const LookBack& before,
                          std::span<int64_t> rows) const {
  assert(rows.size() == compressed.size() * columns_);
  assert(dead.empty() || dead.size() == compressed.size());
  const Layer& layer = layers_[layer_index];
  // window[k] is the id at look-back k of the current position, pad from look-back `depth` on.
  std::array<uint64_t, kMaxNgram + 1> window;
  window.fill(pad_);
  uint32_t depth = before.depth;
  for (uint32_t k = 0; k < std::min<uint32_t>(depth, orders_); ++k) window[k] = before.ids[k];
  int64_t* out = rows.data();
  for (size_t position = 0; position < compressed.size(); ++position) {
    if (IsDead(dead, position)) {
      window.fill(pad_);
    } else {
      for (uint32_t k = orders_; k > 0; --k) window[k] = window[k - 1];
      window[0] = compressed[position];
    }
    uint64_t mix = window[0] * layer.multipliers[0];
    const Column* column = layer.columns.data();
    for (uint32_t order = 1; order <= orders_; ++order) {
      mix ^= window[order] * layer.multipliers[order];
      for (uint32_t head = 0; head < heads_; ++head, ++column) {
        *out++ = static_cast<int64_t>(Modulo(mix, *column) + column->offset);
      }
    }
    if (pad_ends_sequence_ && window[0] == pad_) window.fill(pad_);
  }
}

void RowHasher::Advance(std::span<const uint32_t> compressed, std::span<const uint8_t> dead,
                        LookBack& state) const {
  const size_t first =
      compressed.size() > state.ids.size() ? compressed.size() - state.ids.size() : 0;
  // What lies before the last ids.size() positions matters only through the depth it leaves.
  for (size_t position = 0; position < compressed.size(); ++position) {
    if (IsDead(dead, position) || (pad_ends_sequence_ && compressed[position] == pad_)) {
      state.depth = 0;
      continue;
    }
    state.depth = std::min(state.depth + 1, kMaxNgram);
    if (position < first) continue;
    for (size_t k = state.ids.size() - 1; k > 0; --k) state.ids[k] = state.ids[k - 1];
    state.ids[0] = compressed[position];
  }
}

}  // namespace engram

#include "storage/changed_rows.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstring>

#include "proto/base/isa.h"
#include "storage/range_index.h"

namespace engram {
namespace {

constexpr size_t kBlock = 32;  // ids that are looked at together

// What one look at a block takes.
template <typename Id>
struct BitLook {
  const uint32_t* bits;
  Id first;
  uint32_t shift;
  Id beyond;  // the bit of what lies beyond
};

// Bit i: the i-th id may be changed. Written so that the compiler turns it into vectors.
template <typename Id>
[[gnu::always_inline]] inline uint32_t Candidates(const Id* ids, const BitLook<Id>& look) {
  uint32_t found[kBlock];
  for (size_t i = 0; i < kBlock; ++i) {
    // An id below `first` wraps to one far beyond.
    const auto bit = static_cast<uint32_t>(
        std::min(static_cast<Id>((ids[i] - look.first) >> look.shift), look.beyond));
    found[i] = (look.bits[bit >> 5] >> (bit & 31) & 1) << i;
  }
  uint32_t mask = 0;
  for (size_t i = 0; i < kBlock; ++i) mask |= found[i];
  return mask;
}

template <typename Id>
uint32_t CandidatesPortable(const Id* ids, const BitLook<Id>& look) {
  return Candidates(ids, look);
}

#ifdef __x86_64__
// Of short ids, by hand: the compiler takes the words one by one, three times the instructions.
ENGRAM_TARGET_AVX2 uint32_t CandidatesAvx2(const uint32_t* ids, const BitLook<uint32_t>& look) {
  const __m256i first = _mm256_set1_epi32(static_cast<int>(look.first));
  const __m256i beyond = _mm256_set1_epi32(static_cast<int>(look.beyond));
  const __m256i low = _mm256_set1_epi32(31);
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(look.shift));
  uint32_t mask = 0;
  for (size_t i = 0; i < kBlock; i += 8) {
    const __m256i id = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(ids + i));
    const __m256i bit =
        _mm256_min_epu32(_mm256_srl_epi32(_mm256_sub_epi32(id, first), shift), beyond);
    const __m256i words = _mm256_i32gather_epi32(reinterpret_cast<const int*>(look.bits),
                                                 _mm256_srli_epi32(bit, 5), sizeof(uint32_t));
    // The bit becomes the sign.
    const __m256i found = _mm256_sllv_epi32(words, _mm256_andnot_si256(bit, low));
    mask |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(found))) << i;
  }
  return mask;
}
#else
uint32_t CandidatesAvx2(const uint32_t* ids, const BitLook<uint32_t>& look) {
  return Candidates(ids, look);
}
#endif
ENGRAM_TARGET_AVX2 uint32_t CandidatesAvx2(const uint64_t* ids, const BitLook<uint64_t>& look) {
  return Candidates(ids, look);
}

// The smallest shift that leaves at most `limit` values of 0 .. last.
uint32_t ShiftFor(uint64_t last, uint64_t limit) {
  uint32_t shift = 0;
  while ((last >> shift) >= limit) ++shift;
  return shift;
}

}  // namespace

ChangedIndex::ChangedIndex(std::vector<uint64_t> rows) : rows_(std::move(rows)) {
  constexpr uint64_t kBitsPerRow = 64;
  constexpr uint64_t kRowsPerEntry = 2;
  first_ = rows_.front();
  last_ = rows_.back() - first_;
  const uint64_t max_bits = std::min<uint64_t>(rows_.size() * kBitsPerRow, uint64_t{1} << 31);
  bit_shift_ = ShiftFor(last_, max_bits);
  last_bit_ = static_cast<uint32_t>(last_ >> bit_shift_);
  bits_.assign((last_bit_ + 1) / 32 + 1, 0);
  directory_shift_ = ShiftFor(last_, std::max<uint64_t>(1, rows_.size() / kRowsPerEntry));
  directory_.assign((last_ >> directory_shift_) + 2, 0);
  for (const uint64_t row : rows_) {
    const uint64_t bit = (row - first_) >> bit_shift_;
    bits_[bit / 32] |= uint32_t{1} << bit % 32;
    ++directory_[((row - first_) >> directory_shift_) + 1];
  }
  for (size_t i = 1; i < directory_.size(); ++i) directory_[i] += directory_[i - 1];
}

uint64_t ChangedIndex::bytes() const {
  return rows_.capacity() * sizeof(rows_[0]) + bits_.capacity() * sizeof(bits_[0]) +
         directory_.capacity() * sizeof(directory_[0]);
}

size_t ChangedIndex::LowerBound(uint64_t row) const {
  return static_cast<size_t>(std::lower_bound(rows_.begin(), rows_.end(), row) - rows_.begin());
}

std::optional<uint64_t> ChangedIndex::Find(uint64_t row) const {
  if (row < first_ || row - first_ > last_) return std::nullopt;
  const uint64_t entry = (row - first_) >> directory_shift_;
  const auto begin = rows_.begin() + directory_[entry];
  const auto end = rows_.begin() + directory_[entry + 1];
  const auto it = std::lower_bound(begin, end, row);
  if (it == end || *it != row) return std::nullopt;
  return static_cast<uint64_t>(it - rows_.begin());
}

template <typename Id, typename Mask>
size_t ChangedIndex::FindBlocks(std::span<const Id> ids, Hit* hits, Mask mask) const {
  const BitLook<Id> look{bits_.data(), static_cast<Id>(first_), bit_shift_,
                         static_cast<Id>(last_bit_ + 1)};
  Id rest[kBlock];
  size_t count = 0;
  for (size_t at = 0; at < ids.size(); at += kBlock) {
    const Id* block = ids.data() + at;
    if (const size_t left = ids.size() - at; left < kBlock) {
      std::fill(std::copy_n(block, left, rest), rest + kBlock, kNoRowId<Id>);
      block = rest;
    }
    for (uint32_t found = mask(block, look); found != 0; found &= found - 1) {
      const auto i = static_cast<size_t>(std::countr_zero(found));
      if (block[i] == kNoRowId<Id>) continue;
      const std::optional<uint64_t> index = Find(block[i]);
      if (index.has_value()) hits[count++] = {static_cast<uint32_t>(at + i), *index};
    }
  }
  return count;
}

template <typename Id>
size_t ChangedIndex::FindSome(std::span<const Id> ids, Hit* hits) const {
  if (first_ + last_ >= kNoRowId<Id>) {
    // Short ids against rows beyond them, which they could wrap into.
    size_t count = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == kNoRowId<Id>) continue;
      const std::optional<uint64_t> index = Find(ids[i]);
      if (index.has_value()) hits[count++] = {static_cast<uint32_t>(i), *index};
    }
    return count;
  }
  if (BestIsa() == Isa::kPortable) return FindBlocks(ids, hits, CandidatesPortable<Id>);
  return FindBlocks(ids, hits, [](const Id* block, const BitLook<Id>& look) {
    return CandidatesAvx2(block, look);
  });
}

template size_t ChangedIndex::FindSome(std::span<const uint32_t>, Hit*) const;
template size_t ChangedIndex::FindSome(std::span<const uint64_t>, Hit*) const;

// ---------------------------------------------------------------- the rows

absl::StatusOr<ChangedRows::Loader> ChangedRows::Loader::Create(const DeltaHeader& header) {
  ASSIGN_OR_RETURN(Arena arena, Arena::Create(header.changed() * header.row_bytes));
  Loader loader(header, std::move(arena));
  for (const DeltaLayer& layer : header.layers) {
    loader.ids_.emplace_back().reserve(layer.changed);
    loader.checksums_.emplace_back().reserve(layer.changed);
  }
  return loader;
}

DeltaRow ChangedRows::Loader::Add(const DeltaRow& row) {
  uint8_t* const bytes = arena_.data() + taken_++ * header_.row_bytes;
  std::memcpy(bytes, row.bytes, header_.row_bytes);
  ids_[row.layer_index].push_back(row.row);
  checksums_[row.layer_index].push_back(row.checksum);
  DeltaRow kept = row;
  kept.bytes = bytes;
  return kept;
}

std::shared_ptr<const ChangedRows> ChangedRows::Loader::Finish() && {
  std::shared_ptr<ChangedRows> changed(new ChangedRows(header_.row_bytes, std::move(arena_)));
  changed->total_rows_ = taken_;
  const uint8_t* rows = changed->arena_.data();
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (ids_[i].empty()) continue;
    const size_t count = ids_[i].size();
    changed->layers_.push_back({header_.layers[i].layer, ChangedIndex(std::move(ids_[i])), rows,
                                std::move(checksums_[i])});
    rows += count * header_.row_bytes;
  }
  return changed;
}

const ChangedRows::Layer* ChangedRows::FindLayer(uint32_t id) const {
  const auto it = std::find_if(layers_.begin(), layers_.end(),
                               [id](const Layer& layer) { return layer.id == id; });
  return it == layers_.end() ? nullptr : &*it;
}

uint64_t ChangedRows::memory_bytes() const {
  uint64_t bytes = arena_.bytes();
  for (const Layer& layer : layers_) {
    bytes += layer.index.bytes() + layer.checksums.capacity() * sizeof(uint32_t);
  }
  return bytes;
}

}  // namespace engram

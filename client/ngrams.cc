#include "client/ngrams.h"

#include <algorithm>
#include <bit>

namespace engram {
namespace {

// At most half of the table is used.
constexpr size_t kRoom = 2;
constexpr uint64_t kTagMask = 0xffff'ffff'0000'0000;

uint64_t Hash(std::span<const int64_t> ids) {
  const uint64_t mixed = EndsOf(ids) * 0x9e3779b97f4a7c15;
  return mixed ^ mixed >> 32;
}

}  // namespace

NgramColumns::NgramColumns(uint32_t heads, ColumnRange columns)
    : range_(columns), first_order_(columns.begin / heads), begin_{0} {
  for (uint32_t at = columns.begin; at < columns.end;) {
    at = std::min(columns.end, (at / heads + 1) * heads);
    begin_.push_back(at - columns.begin);
  }
}

uint32_t NgramColumns::max_size() const {
  uint32_t most = 0;
  for (uint32_t part = 0; part < parts(); ++part) most = std::max(most, size(part));
  return most;
}

void NgramFold::Reset(size_t ngrams) {
  source.assign(ngrams, Source::kFetch);
  next.assign(ngrams, 0);
  slot.assign(ngrams, kNoSlot);
}

size_t NgramDedup::Run(std::span<const int64_t> ids, const NgramColumns& columns, NgramFold& fold) {
  const size_t ngrams = fold.source.size();
  if (table_.size() < kRoom * ngrams) {
    table_.assign(std::bit_ceil(kRoom * ngrams), 0);
    generation_ = 0;
  }
  if (++generation_ > UINT16_MAX) {
    std::fill(table_.begin(), table_.end(), 0);
    generation_ = 1;
  }
  const uint64_t mask = table_.size() - 1;
  const uint64_t generation = uint64_t{generation_} << 48;
  size_t duplicates = 0;
  uint32_t ngram = 0;
  for (const int64_t* token = ids.data(); ngram < ngrams; token += columns.columns()) {
    for (uint32_t part = 0; part < columns.parts(); ++part, ++ngram) {
      const int64_t* const own = token + columns.begin(part);
      const uint32_t size = columns.size(part);
      if (!IsWhole({own, size})) continue;
      const uint64_t hash = Hash({own, size});
      const uint64_t tag = generation | (hash >> 48) << 32;
      for (uint64_t at = hash & mask;; at = (at + 1) & mask) {
        const uint64_t found = table_[at];
        if (found >> 48 != generation_) {
          table_[at] = tag | ngram;
          break;
        }
        const auto first = static_cast<uint32_t>(found);
        if ((found & kTagMask) != tag || columns.Size(first) != size ||
            !std::equal(own, own + size, ids.data() + columns.First(first))) {
          continue;
        }
        fold.source[ngram] = NgramFold::Source::kDuplicate;
        fold.next[ngram] = fold.next[first];
        fold.next[first] = ngram;
        ++duplicates;
        break;
      }
    }
  }
  return duplicates;
}

bool Payoff::Try() {
  if (share_ < worthwhile_ && ++skipped_ < every_) return false;
  skipped_ = 0;
  return true;
}

void Payoff::Learn(size_t tried, size_t found, double weight) {
  if (tried == 0) return;
  const bool given_up = share_ < worthwhile_;
  share_ += (static_cast<double>(found) / static_cast<double>(tried) - share_) * weight;
  every_ = given_up && share_ < worthwhile_ ? std::min(every_ * 2, kMost) : kFirst;
}

}  // namespace engram

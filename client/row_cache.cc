#include "client/row_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Counters are halved when so many n-grams were counted for every slot. What text repeats it
// repeats over millions of tokens: of periods from 2 to 30 longer ones hit more.
constexpr uint64_t kPeriod = 30;
constexpr uint8_t kMostCounted = 255;
constexpr size_t kHugePage = 2 << 20;
// Counters for each slot, so that n-grams that are not held do not count for one another.
constexpr size_t kCountersPerSlot = 32;
// An id of the layer's that no n-gram has.
constexpr uint32_t kNoId = UINT32_MAX;

uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
  return x ^ x >> 33;
}

uint16_t TagOf(uint64_t hash) { return static_cast<uint16_t>(hash >> 48); }

}  // namespace

size_t RowCache::SlotOverhead(size_t slot_rows, size_t id_words) {
  return sizeof(Set) / kWays + (1 + slot_rows * id_words) * sizeof(uint32_t) + kCountersPerSlot;
}

absl::StatusOr<std::unique_ptr<RowCache>> RowCache::Create(uint64_t bytes, NgramColumns columns,
                                                           size_t row_bytes, uint64_t layer_rows) {
  const uint64_t slot_rows = columns.max_size();
  const size_t id_words = layer_rows <= kNoId ? 1 : 2;
  const uint64_t slot_bytes = slot_rows * row_bytes + SlotOverhead(slot_rows, id_words);
  const uint64_t sets = bytes / (kWays * slot_bytes);
  if (sets == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a cache of ", bytes, " bytes holds nothing: ", kWays * slot_bytes, " is the least"));
  }
  if (sets * kWays * slot_rows >= UINT32_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cache of ", bytes, " bytes holds more rows than 32 bits can number"));
  }
  const uint64_t row_memory = sets * kWays * slot_rows * row_bytes;
  void* const rows = mmap(nullptr, row_memory, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (rows == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a cache of ", bytes, " bytes"));
  }
  if (row_memory >= kHugePage) madvise(rows, row_memory, MADV_HUGEPAGE);
  return std::unique_ptr<RowCache>(
      new RowCache(std::move(columns), sets, id_words, static_cast<uint8_t*>(rows), row_memory));
}

RowCache::RowCache(NgramColumns columns, size_t sets, size_t id_words, uint8_t* rows,
                   uint64_t row_memory)
    : columns_(std::move(columns)),
      slot_rows_(columns_.max_size()),
      id_words_(id_words),
      key_words_(1 + slot_rows_ * id_words),
      rows_(rows),
      row_memory_(row_memory),
      sets_(sets),
      keys_(slots() * key_words_, kNoId),
      sketch_(std::max<size_t>(1, std::bit_floor(slots() * kCountersPerSlot / kLine))) {
  bytes_ = row_memory_ + sets_.size() * sizeof(Set) + keys_.size() * sizeof(keys_[0]) +
           sketch_.size() * sizeof(Line);
}

RowCache::~RowCache() { munmap(rows_, row_memory_); }

void RowCache::Begin() { batch_ = batch_ == UINT8_MAX ? kReady + 1 : batch_ + 1; }

// ---------------------------------------------------------------- keys

RowCache::Key RowCache::KeyOf(size_t layer_index, std::span<const int64_t> ids) {
  return {layer_index, ids, Mix(EndsOf(ids) ^ (uint64_t{layer_index} << 56))};
}

bool RowCache::Holds(size_t slot, const Key& key) const {
  const uint32_t* stored = &keys_[slot * key_words_];
  if (*stored++ != key.layer_index) return false;
  uint32_t differ = 0;
  for (const int64_t id : key.ids) {
    differ |= *stored++ ^ static_cast<uint32_t>(id);
    if (id_words_ > 1) differ |= *stored++ ^ static_cast<uint32_t>(id >> 32);
  }
  // An id's last word is never all ones.
  return differ == 0 && (key.ids.size() == slot_rows_ || stored[id_words_ - 1] == kNoId);
}

void RowCache::StoreKey(size_t slot, const Key& key) {
  uint32_t* stored = &keys_[slot * key_words_];
  uint32_t* const end = stored + key_words_;
  *stored++ = static_cast<uint32_t>(key.layer_index);
  for (const int64_t id : key.ids) {
    *stored++ = static_cast<uint32_t>(id);
    if (id_words_ > 1) *stored++ = static_cast<uint32_t>(id >> 32);
  }
  std::fill(stored, end, kNoId);
}

void RowCache::LoadKey(size_t slot, std::vector<uint64_t>& ids) const {
  ids.clear();
  const uint32_t* const stored = &keys_[slot * key_words_ + 1];
  for (const uint32_t* id = stored; id != stored + slot_rows_ * id_words_; id += id_words_) {
    if (id[id_words_ - 1] == kNoId) break;
    ids.push_back(id[0] | (id_words_ > 1 ? uint64_t{id[1]} << 32 : 0));
  }
}

// ---------------------------------------------------------------- counting

RowCache::Counters RowCache::CountersOf(uint64_t hash) {
  Line& line = sketch_[LineOf(hash)];
  uint64_t bits = hash * 0x9e3779b97f4a7c15;
  Counters counters;
  for (uint8_t*& counter : counters) {
    counter = &line.counters[bits >> 58];
    bits <<= 6;
  }
  return counters;
}

uint8_t RowCache::CountOnce(uint64_t hash) {
  if (++counted_ >= kPeriod * slots()) Age();
  const Counters counters = CountersOf(hash);
  uint8_t least = kMostCounted;
  for (const uint8_t* const counter : counters) least = std::min(least, *counter);
  if (least == kMostCounted) return least;
  for (uint8_t* const counter : counters) {
    if (*counter == least) ++*counter;
  }
  return least;
}

void RowCache::Count(const Key& key, uint32_t times) {
  const auto most = static_cast<uint8_t>(std::min<uint32_t>(times, kMostCounted));
  for (uint8_t* const counter : CountersOf(key.hash)) *counter = std::max(*counter, most);
}

void RowCache::Age() {
  counted_ = 0;
  for (Line& line : sketch_) {
    for (uint8_t& counter : line.counters) counter >>= 1;
  }
  for (Set& set : sets_) {
    for (uint8_t& count : set.counts) count >>= 1;
  }
}

// ---------------------------------------------------------------- a search

void RowCache::Prefetch(const Key& key) const {
  __builtin_prefetch(&sets_[SetOf(key.hash)]);
  __builtin_prefetch(&sketch_[LineOf(key.hash)]);
}

void RowCache::PrefetchMatch(const Key& key) const {
  const size_t first = SetOf(key.hash);
  const Set& set = sets_[first];
  const uint16_t tag = TagOf(key.hash);
  for (size_t way = 0; way < kWays; ++way) {
    if (set.tags[way] != tag) continue;
    const uint32_t* const stored = &keys_[(first * kWays + way) * key_words_];
    __builtin_prefetch(stored);
    __builtin_prefetch(stored + key_words_ - 1);
  }
}

size_t RowCache::Victim(const Set& set) const {
  size_t victim = kWays;
  for (size_t way = 0; way < kWays; ++way) {
    if (set.states[way] == kFree) return way;
    if (set.states[way] == kFilling || set.states[way] == batch_) continue;
    if (victim == kWays || set.counts[way] < set.counts[victim]) victim = way;
  }
  return victim;
}

RowCache::Found RowCache::Find(const Key& key, uint32_t part) {
  const uint8_t before = CountOnce(key.hash);
  const size_t first = SetOf(key.hash);
  Set& set = sets_[first];
  const uint16_t tag = TagOf(key.hash);
  for (size_t way = 0; way < kWays; ++way) {
    if (set.tags[way] != tag || set.states[way] == kFree) continue;
    const size_t slot = first * kWays + way;
    if (!Holds(slot, key)) continue;
    // Rows that are on their way for somebody else come to them alone.
    if (set.states[way] == kFilling) return {};
    set.states[way] = batch_;
    if (set.counts[way] < kMostCounted) ++set.counts[way];
    return {static_cast<uint32_t>(slot), true};
  }
  const size_t way = Victim(set);
  if (way == kWays) return {};
  const int prior = columns_.order(part) == 0 ? 1 : 0;
  const auto count = static_cast<uint8_t>(std::min<int>(kMostCounted, before + 1 + prior));
  if (set.states[way] != kFree && count <= set.counts[way]) return {};
  set.tags[way] = tag;
  set.counts[way] = count;
  set.states[way] = kFilling;
  StoreKey(first * kWays + way, key);
  return {static_cast<uint32_t>(first * kWays + way), false};
}

}  // namespace engram

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
constexpr size_t kCountersPerSlot = 16;

uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
  return x ^ x >> 33;
}

uint64_t Hash(size_t layer_index, std::span<const int64_t> ids) {
  return Mix(EndsOf(ids) ^ (uint64_t{layer_index} << 56));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RowCache>> RowCache::Create(uint64_t bytes, NgramColumns columns,
                                                           size_t row_bytes) {
  const uint64_t slot_rows = columns.max_size();
  const uint64_t slot_bytes =
      slot_rows * row_bytes + sizeof(Slot) + (1 + slot_rows) * sizeof(int64_t) + kCountersPerSlot;
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
      new RowCache(std::move(columns), sets, static_cast<uint8_t*>(rows), row_memory));
}

RowCache::RowCache(NgramColumns columns, size_t sets, uint8_t* rows, uint64_t row_memory)
    : columns_(std::move(columns)),
      slot_rows_(columns_.max_size()),
      sets_(sets),
      rows_(rows),
      row_memory_(row_memory),
      slots_(sets * kWays),
      keys_(slots_.size() * (1 + slot_rows_), -1),
      sketch_(
          std::max<size_t>(1, std::bit_floor(slots_.size() * kCountersPerSlot / kLineCounters))) {
  bytes_ = row_memory_ + slots_.size() * sizeof(Slot) + keys_.size() * sizeof(int64_t) +
           sketch_.size() * sizeof(Line);
}

RowCache::~RowCache() { munmap(rows_, row_memory_); }

bool RowCache::Holds(size_t slot, size_t layer_index, std::span<const int64_t> ids) const {
  const int64_t* const key = &keys_[slot * (1 + slot_rows_)];
  return key[0] == static_cast<int64_t>(layer_index) &&
         std::equal(ids.begin(), ids.end(), key + 1) &&
         (ids.size() == slot_rows_ || key[1 + ids.size()] == -1);
}

RowCache::Counters RowCache::CountersOf(uint64_t hash) {
  hash = Mix(hash);
  Line& line = sketch_[hash & (sketch_.size() - 1)];
  Counters counters;
  for (size_t i = 0; i < counters.size(); ++i) {
    counters[i] = &line.counters[(hash >> (64 - 6 * (i + 1))) % kLineCounters];
  }
  return counters;
}

uint8_t RowCache::CountOnce(uint64_t hash) {
  if (++counted_ >= kPeriod * slots_.size()) Age();
  const Counters counters = CountersOf(hash);
  uint8_t least = kMostCounted;
  for (const uint8_t* const counter : counters) least = std::min(least, *counter);
  if (least == kMostCounted) return least;
  for (uint8_t* const counter : counters) {
    if (*counter == least) ++*counter;
  }
  return least;
}

void RowCache::Count(size_t layer_index, std::span<const int64_t> ids, uint32_t times) {
  const auto most = static_cast<uint8_t>(std::min<uint32_t>(times, kMostCounted));
  for (uint8_t* const counter : CountersOf(Hash(layer_index, ids))) {
    *counter = std::max(*counter, most);
  }
}

void RowCache::Age() {
  counted_ = 0;
  for (Line& line : sketch_) {
    for (uint8_t& counter : line.counters) counter >>= 1;
  }
  for (Slot& slot : slots_) slot.count >>= 1;
}

RowCache::Found RowCache::Find(size_t layer_index, uint32_t part, std::span<const int64_t> ids) {
  const uint64_t hash = Hash(layer_index, ids);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const uint8_t before = CountOnce(hash);
  const size_t set = (hash % sets_) * kWays;
  size_t victim = kNone;
  for (size_t slot = set; slot < set + kWays; ++slot) {
    Slot& its = slots_[slot];
    if (its.state == State::kReady && its.tag == tag && Holds(slot, layer_index, ids)) {
      its.used = batch_;
      if (its.count < kMostCounted) ++its.count;
      return {static_cast<uint32_t>(slot), true};
    }
    // Rows that are on their way for somebody else come to them alone.
    if (its.state == State::kFilling) {
      if (its.tag == tag && Holds(slot, layer_index, ids)) return {};
      continue;
    }
    if (its.state == State::kReady && its.used == batch_) continue;
    if (victim != kNone && slots_[victim].state == State::kFree) continue;
    if (victim == kNone || its.state == State::kFree || its.count < slots_[victim].count ||
        (its.count == slots_[victim].count && its.used < slots_[victim].used)) {
      victim = slot;
    }
  }
  if (victim == kNone) return {};
  Slot& its = slots_[victim];
  const int prior = columns_.order(part) == 0 ? 1 : 0;
  const auto count = static_cast<uint8_t>(std::min<int>(kMostCounted, before + 1 + prior));
  if (its.state == State::kReady && count <= its.count) return {};
  its = {tag, batch_, count, State::kFilling};
  int64_t* const key = &keys_[victim * (1 + slot_rows_)];
  key[0] = static_cast<int64_t>(layer_index);
  std::fill(std::copy(ids.begin(), ids.end(), key + 1), key + 1 + slot_rows_, -1);
  return {static_cast<uint32_t>(victim), false};
}

}  // namespace engram

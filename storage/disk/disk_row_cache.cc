#include "storage/disk/disk_row_cache.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "proto/base/isa.h"
#include "proto/base/status_macros.h"
#include "storage/gather.h"

namespace engram {
namespace {

constexpr size_t kLineBytes = 64;
constexpr size_t kWindow = DiskRowCache::kWays - 1;  // the way that is a set's window
constexpr uint8_t kMostUses = 15;
constexpr uint64_t kSketchBytesPerRow = 8;
// Counts are halved after so many rows asked for per row of the cache.
constexpr uint64_t kAgeRows = 10;
constexpr size_t kAhead = 32;  // rows between the stages of a Get
constexpr size_t kNowhere = DiskRowCache::kWays;

uint64_t Mix(uint64_t value) {
  value = (value ^ value >> 32) * 0xD6E8FEB86659FD93u;
  return (value ^ value >> 32) * 0xD6E8FEB86659FD93u;
}

uint64_t Scale(uint64_t hash, uint64_t count) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(hash) * count >> 64);
}

}  // namespace

// Keys are read without the lock to find out what to ask the cache for; the rest is the lock's.
struct alignas(kLineBytes) DiskRowCache::Set {
  std::array<std::atomic<uint32_t>, kWays> keys;  // place + 1; 0: empty
  std::array<uint8_t, kWays> uses;
  std::atomic<uint8_t> lock;
  uint8_t age;

  void Lock() {
    while (lock.exchange(1, std::memory_order_acquire) != 0) sched_yield();
  }
  void Unlock() { lock.store(0, std::memory_order_release); }
  bool Holds(size_t way, uint64_t place) const {
    return keys[way].load(std::memory_order_relaxed) == static_cast<uint32_t>(place + 1);
  }
  // Without a branch, for which way it is cannot be predicted, and all keys at once: of the lane
  // that is equal the bit of its way is left. Outside the lock what it says is a guess, as is
  // meant: the race is not ThreadSanitizer's to report.
  __attribute__((no_sanitize("thread"))) size_t Find(uint64_t place) const {
    using Lanes __attribute__((vector_size(16), may_alias)) = uint32_t;
    static_assert(kNowhere == kWays && sizeof(keys) == 3 * sizeof(Lanes));
    const auto* const lanes = reinterpret_cast<const Lanes*>(&keys);
    const Lanes key = Lanes{} + static_cast<uint32_t>(place + 1);
    const Lanes found = (Lanes(lanes[0] == key) & Lanes{1u << 0, 1u << 1, 1u << 2, 1u << 3}) |
                        (Lanes(lanes[1] == key) & Lanes{1u << 4, 1u << 5, 1u << 6, 1u << 7}) |
                        (Lanes(lanes[2] == key) & Lanes{1u << 8, 1u << 9, 1u << 10, 1u << 11});
    return static_cast<size_t>(
        std::countr_zero(found[0] | found[1] | found[2] | found[3] | 1u << kNowhere));
  }
};

absl::StatusOr<std::unique_ptr<DiskRowCache>> DiskRowCache::Create(uint32_t row_bytes,
                                                                   uint64_t bytes) {
  static_assert(sizeof(Set) == kLineBytes);
  const uint64_t slot_bytes = row_bytes + sizeof(uint32_t);
  const uint64_t set_bytes = kLineBytes + kWays * (slot_bytes + kSketchBytesPerRow);
  const uint64_t sets = std::max<uint64_t>(1, bytes / set_bytes);
  ASSIGN_OR_RETURN(Arena sets_memory, Arena::Create(sets * kLineBytes));
  ASSIGN_OR_RETURN(Arena rows, Arena::Create(sets * kWays * slot_bytes));
  ASSIGN_OR_RETURN(Arena sketch,
                   Arena::Create((sets * kWays * kSketchBytesPerRow + kLineBytes - 1) / kLineBytes *
                                 kLineBytes));
  return std::unique_ptr<DiskRowCache>(new DiskRowCache(row_bytes, sets, std::move(sets_memory),
                                                        std::move(rows), std::move(sketch)));
}

// Arenas are zeros, which an empty set and an empty sketch are.
DiskRowCache::DiskRowCache(uint32_t row_bytes, uint64_t sets, Arena sets_memory, Arena rows,
                           Arena sketch)
    : row_bytes_(row_bytes),
      slot_bytes_(row_bytes + sizeof(uint32_t)),
      sets_(sets),
      sets_memory_(std::move(sets_memory)),
      rows_(std::move(rows)),
      sketch_(std::move(sketch)),
      sketch_lines_(sketch_.bytes() / kLineBytes) {}

uint64_t DiskRowCache::SetOf(uint64_t place) const { return Scale(Mix(place), sets_); }
DiskRowCache::Set& DiskRowCache::SetAt(uint64_t set) const {
  return reinterpret_cast<Set*>(sets_memory_.data())[set];
}
uint8_t* DiskRowCache::RowAt(uint64_t set, size_t way) const {
  return rows_.data() + (set * kWays + way) * slot_bytes_;
}

// A row goes through three stages, far enough apart that none waits for memory: its set is asked
// for, then the row, then it is copied.
template <size_t kRowBytes>
void DiskRowCache::GetRows(std::span<const uint64_t> places, uint8_t* out, uint32_t* checksums,
                           std::vector<uint32_t>& misses) {
  const size_t row_bytes = kRowBytes != 0 ? kRowBytes : row_bytes_;
  const size_t slot_bytes = row_bytes + sizeof(uint32_t);
  struct Sought {
    uint64_t set;
    size_t way;
  };
  std::array<Sought, 2 * kAhead> sought;  // a ring
  for (size_t next = 0; next < places.size() + 2 * kAhead; ++next) {
    if (const size_t i = next - 2 * kAhead; next >= 2 * kAhead) {
      uint8_t* const to = out + i * row_bytes;
      const auto& [index, way] = sought[i % sought.size()];
      if (places[i] == kNoPlace) {
        std::memset(to, 0, row_bytes);
      } else if (way == kNowhere) {
        misses.push_back(static_cast<uint32_t>(i));
      } else {
        Set& set = SetAt(index);
        const uint8_t* const row = RowAt(index, way);
        set.Lock();
        const bool here = set.Holds(way, places[i]);  // It may have gone since.
        if (here) {
          if constexpr (kRowBytes != 0) {
            CopyRow<kRowBytes, kBlockPortable>(to, row);
          } else {
            std::memcpy(to, row, row_bytes);
          }
          if (checksums != nullptr) std::memcpy(checksums + i, row + row_bytes, sizeof(uint32_t));
          if (set.uses[way] < kMostUses) ++set.uses[way];
        }
        set.Unlock();
        if (!here) misses.push_back(static_cast<uint32_t>(i));
      }
    }
    if (const size_t i = next - kAhead;
        next >= kAhead && i < places.size() && places[i] != kNoPlace) {
      Sought& row = sought[i % sought.size()];
      row.way = SetAt(row.set).Find(places[i]);
      if (row.way != kNowhere) {
        const uint8_t* const slot = RowAt(row.set, row.way);
        PrefetchRow(slot, slot_bytes);
        __builtin_prefetch(slot + slot_bytes - 1, 0, 2);  // It may end in one more line.
      }
    }
    if (next < places.size() && places[next] != kNoPlace) {
      const uint64_t set = SetOf(places[next]);
      sought[next % sought.size()].set = set;
      __builtin_prefetch(&SetAt(set), 1, 3);
    }
  }
}

void DiskRowCache::Get(std::span<const uint64_t> places, uint8_t* out, uint32_t* checksums,
                       std::vector<uint32_t>& misses) {
  WithRowBytes(row_bytes_,
               [&]<size_t kRowBytes>() { GetRows<kRowBytes>(places, out, checksums, misses); });
  const uint64_t asked = asked_.fetch_add(places.size(), std::memory_order_relaxed);
  if (asked / (kAgeRows * rows()) != (asked + places.size()) / (kAgeRows * rows())) AgeSketch();
}

void DiskRowCache::AgeSketch() {
  age_.fetch_add(1, std::memory_order_relaxed);
  // A count that is lost meanwhile is a use that nobody misses.
  for (uint64_t i = 0; i < sketch_.bytes(); ++i) {
    const std::atomic_ref<uint8_t> counter(sketch_.data()[i]);
    counter.store(counter.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  }
}

void DiskRowCache::Age(Set& set) {
  const uint8_t age = age_.load(std::memory_order_relaxed);
  const auto ages = static_cast<uint8_t>(age - set.age);
  if (ages == 0) return;
  set.age = age;
  for (uint8_t& uses : set.uses) uses = static_cast<uint8_t>(uses >> std::min<uint8_t>(ages, 7));
}

uint8_t DiskRowCache::Count(uint64_t place) {
  const uint64_t hash = Mix(place ^ 0x5851F42D4C957F2Du);
  uint8_t* const line = sketch_.data() + Scale(hash, sketch_lines_) * kLineBytes;
  uint8_t least = kMostUses;
  for (size_t i = 0; i < 4; ++i) {
    const std::atomic_ref<uint8_t> counter(line[16 * i + (hash >> (4 * i) & 15)]);
    uint8_t uses = counter.load(std::memory_order_relaxed);
    if (uses < kMostUses) counter.store(++uses, std::memory_order_relaxed);
    least = std::min(least, uses);
  }
  return least;
}

void DiskRowCache::Remember(uint64_t place, uint8_t uses) {
  const uint64_t hash = Mix(place ^ 0x5851F42D4C957F2Du);
  uint8_t* const line = sketch_.data() + Scale(hash, sketch_lines_) * kLineBytes;
  for (size_t i = 0; i < 4; ++i) {
    const std::atomic_ref<uint8_t> counter(line[16 * i + (hash >> (4 * i) & 15)]);
    if (counter.load(std::memory_order_relaxed) < uses) {
      counter.store(uses, std::memory_order_relaxed);
    }
  }
}

void DiskRowCache::Write(uint64_t set, size_t way, HotRow hot, const uint8_t* row,
                         uint32_t checksum) {
  uint8_t* const slot = RowAt(set, way);
  std::memcpy(slot, row, row_bytes_);
  std::memcpy(slot + row_bytes_, &checksum, sizeof(checksum));
  SetAt(set).keys[way].store(hot.place + 1, std::memory_order_relaxed);
  SetAt(set).uses[way] = hot.uses;
}

void DiskRowCache::Forget(uint64_t place) {
  Set& set = SetAt(SetOf(place));
  set.Lock();
  const size_t way = set.Find(place);
  if (way != kNowhere) {
    set.keys[way].store(0, std::memory_order_relaxed);
    set.uses[way] = 0;
  }
  set.Unlock();
}

void DiskRowCache::Offer(uint64_t place, const uint8_t* row, uint32_t checksum) {
  const HotRow hot{static_cast<uint32_t>(place), Count(place)};
  const uint64_t index = SetOf(place);
  Set& set = SetAt(index);
  set.Lock();
  Age(set);
  if (set.Find(place) == kNowhere) {
    const uint32_t window = set.keys[kWindow].load(std::memory_order_relaxed);
    if (window != 0) {
      size_t least = 0;
      for (size_t way = 0; way < kWindow; ++way) {
        if (set.keys[way].load(std::memory_order_relaxed) == 0) {
          least = way;
          break;
        }
        if (set.uses[way] < set.uses[least]) least = way;
      }
      const uint32_t key = set.keys[least].load(std::memory_order_relaxed);
      const bool stays = key == 0 || set.uses[kWindow] > set.uses[least];
      const HotRow was{window - 1, set.uses[kWindow]};
      if (!stays) {
        Remember(was.place, was.uses);
      } else {
        if (key != 0) Remember(key - 1, set.uses[least]);
        const uint8_t* const from = RowAt(index, kWindow);
        uint32_t its_checksum;
        std::memcpy(&its_checksum, from + row_bytes_, sizeof(its_checksum));
        Write(index, least, was, from, its_checksum);
      }
    }
    Write(index, kWindow, hot, row, checksum);
  }
  set.Unlock();
}

std::vector<HotRow> DiskRowCache::HotRows() const {
  std::vector<HotRow> hot;
  for (uint64_t i = 0; i < sets_; ++i) {
    Set& set = SetAt(i);
    set.Lock();
    for (size_t way = 0; way < kWays; ++way) {
      const uint32_t key = set.keys[way].load(std::memory_order_relaxed);
      if (key != 0) hot.push_back({key - 1, set.uses[way]});
    }
    set.Unlock();
  }
  std::sort(hot.begin(), hot.end(),
            [](const HotRow& a, const HotRow& b) { return a.place < b.place; });
  return hot;
}

void DiskRowCache::Put(HotRow hot, const uint8_t* row, uint32_t checksum) {
  const uint64_t index = SetOf(hot.place);
  Set& set = SetAt(index);
  set.Lock();
  size_t way = set.Find(hot.place);
  for (size_t free = 0; way == kNowhere && free < kWays; ++free) {
    if (set.keys[free].load(std::memory_order_relaxed) != 0) continue;
    Write(index, free, hot, row, checksum);
    break;
  }
  set.Unlock();
}

}  // namespace engram

// Rows that were fetched before, n-gram by n-gram.
#ifndef ENGRAM_CLIENT_ROW_CACHE_H_
#define ENGRAM_CLIENT_ROW_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "client/ngrams.h"

namespace engram {

// Bounded in bytes, which are taken as it fills. Rows lie by themselves, and what a search looks at
// takes three lines of the core's cache: a set, its sketch's counters, one key. A slot holds the
// rows of one n-gram of one layer; the key is the layer and the n-gram's row ids, compared whole:
// what hits are the rows asked for, or none. Sixteen slots make a set, in which an n-gram may lie.
//
// Who may come in is decided by how often it was asked for of late (TinyLFU; Einziger, Friedman,
// Manes, 2017): a sketch counts n-grams whether they are held or not, and a new one replaces the
// least asked for of its set only if it was asked for more often. A scan (a long text that nobody
// repeats) leaves the rest alone. The shortest n-grams come back sooner: they are counted as if
// they had been asked for once before.
//
// A slot is
//   free      nobody's
//   filling   taken for rows that are on their way; Commit or Release ends that
//   ready     its rows are those of its key
// One that was found, or is filling, stays as it is until the next Begin, or its end. Belongs to
// one thread and one table: rows of another digest need another cache.
class RowCache {
 public:
  static constexpr uint32_t kNone = NgramFold::kNoSlot;

  // Of a table whose layers have at most `layer_rows` rows each. InvalidArgument: `bytes` hold not
  // one set. ResourceExhausted: no memory.
  static absl::StatusOr<std::unique_ptr<RowCache>> Create(uint64_t bytes, NgramColumns columns,
                                                          size_t row_bytes, uint64_t layer_rows);
  ~RowCache();

  const NgramColumns& columns() const { return columns_; }
  size_t slots() const { return sets_.size() * kWays; }
  uint64_t bytes() const { return bytes_; }  // of memory, keys and all

  struct Found {
    uint32_t slot = kNone;
    bool hit = false;  // the slot is ready; else, if there is one, it was taken to be filled
  };

  // Slots that were found are let go.
  void Begin();

  // An n-gram of row ids `ids`, all of them rows of the layer: no more bits than such have are
  // compared. Borrows them.
  struct Key {
    size_t layer_index;
    std::span<const int64_t> ids;
    uint64_t hash;
  };
  static Key KeyOf(size_t layer_index, std::span<const int64_t> ids);

  // What Find will look at may be asked for ahead: first what every search looks at, then, when
  // that has come, the key that it will compare.
  void Prefetch(const Key& key) const;
  void PrefetchMatch(const Key& key) const;
  // Looks for the n-gram, counts that it was asked for, and takes a slot for it where it is to come
  // in. It is part `part` of columns().
  Found Find(const Key& key, uint32_t part);
  // The n-gram counts as asked for `times` times, if that is more than so far.
  void Count(const Key& key, uint32_t times);
  void Commit(uint32_t slot) { SetState(slot, kReady); }
  void Release(uint32_t slot) { SetState(slot, kFree); }
  // Forgets all rows: another table's come. Not while a slot is filling.
  void Clear() {
    for (Set& set : sets_) set.states.fill(kFree);
  }

  // Calls visit(layer index, row ids, count) for every n-gram that is there.
  template <typename Visit>
  void ForEach(Visit visit) const {
    std::vector<uint64_t> ids;
    for (size_t slot = 0; slot < slots(); ++slot) {
      const Set& set = sets_[slot / kWays];
      if (set.states[slot % kWays] < kReady) continue;
      LoadKey(slot, ids);
      visit(size_t{keys_[slot * key_words_]}, ids, uint32_t{set.counts[slot % kWays]});
    }
  }

  // Rows of slot s are [s * slot_rows(), ...) of [.., row_bytes].
  uint32_t slot_rows() const { return slot_rows_; }
  uint8_t* rows() { return rows_; }

 private:
  static constexpr size_t kWays = 16;
  static constexpr size_t kLine = 64;  // bytes of a line of the core's cache

  // States of a slot. Above kReady: ready, and found by the lookup of that number last (those that
  // begin now and then share numbers with old ones, whose slots then stay a while longer).
  static constexpr uint8_t kFree = 0;
  static constexpr uint8_t kFilling = 1;
  static constexpr uint8_t kReady = 2;

  struct alignas(kLine) Set {
    std::array<uint16_t, kWays> tags{};
    std::array<uint8_t, kWays> counts{};  // how often it was asked for of late
    std::array<uint8_t, kWays> states{};
  };
  struct Line {
    alignas(kLine) std::array<uint8_t, kLine> counters{};
  };

  RowCache(NgramColumns columns, size_t sets, size_t id_words, uint8_t* rows, uint64_t row_memory);

  // Bytes of a slot beside its rows: of its set, key and counters.
  static size_t SlotOverhead(size_t slot_rows, size_t id_words);
  void SetState(uint32_t slot, uint8_t state) { sets_[slot / kWays].states[slot % kWays] = state; }
  // The low half of a hash says where its set lies.
  size_t SetOf(uint64_t hash) const { return (hash & UINT32_MAX) * sets_.size() >> 32; }
  size_t LineOf(uint64_t hash) const { return hash >> 32 & (sketch_.size() - 1); }
  bool Holds(size_t slot, const Key& key) const;
  void StoreKey(size_t slot, const Key& key);
  void LoadKey(size_t slot, std::vector<uint64_t>& ids) const;
  // Of the slots of a set that may be given away the one asked for least; kWays: none.
  size_t Victim(const Set& set) const;
  using Counters = std::array<uint8_t*, 4>;
  Counters CountersOf(uint64_t hash);
  // Counts once; how often that was so far.
  uint8_t CountOnce(uint64_t hash);
  void Age();

  const NgramColumns columns_;
  const uint32_t slot_rows_;
  const size_t id_words_;   // 32-bit words that hold a row id
  const size_t key_words_;  // layer, ids; the ids that a shorter n-gram lacks are all ones
  uint8_t* const rows_;
  const uint64_t row_memory_;
  uint64_t bytes_ = 0;
  std::vector<Set> sets_;
  std::vector<uint32_t> keys_;  // [slots, key_words_]
  std::vector<Line> sketch_;
  uint64_t counted_ = 0;  // since the counters were halved
  uint8_t batch_ = kReady;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_ROW_CACHE_H_

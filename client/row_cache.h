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

// Bounded in bytes, which are taken as it fills. A slot holds the rows of one n-gram of one layer;
// the key is the layer and the n-gram's row ids, compared whole: what hits are the rows asked for,
// or none. Sixteen slots make a set, in which an n-gram may lie.
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

  // InvalidArgument: `bytes` hold not one set. ResourceExhausted: no memory.
  static absl::StatusOr<std::unique_ptr<RowCache>> Create(uint64_t bytes, NgramColumns columns,
                                                          size_t row_bytes);
  ~RowCache();

  const NgramColumns& columns() const { return columns_; }
  size_t slots() const { return slots_.size(); }
  uint64_t bytes() const { return bytes_; }  // of memory, keys and all

  struct Found {
    uint32_t slot = kNone;
    bool hit = false;  // the slot is ready; else, if there is one, it was taken to be filled
  };

  // Slots that were found are let go.
  void Begin() { ++batch_; }
  // Looks for the n-gram, counts that it was asked for, and takes a slot for it where it is to come
  // in. `ids`: its row ids, none negative; `part` of columns().
  Found Find(size_t layer_index, uint32_t part, std::span<const int64_t> ids);
  // The n-gram counts as asked for `times` times, if that is more than so far.
  void Count(size_t layer_index, std::span<const int64_t> ids, uint32_t times);
  void Commit(uint32_t slot) { slots_[slot].state = State::kReady; }
  void Release(uint32_t slot) { slots_[slot].state = State::kFree; }

  // Rows of slot s are [s * slot_rows(), ...) of [.., row_bytes].
  uint32_t slot_rows() const { return slot_rows_; }
  uint8_t* rows() { return rows_; }

 private:
  static constexpr size_t kWays = 16;
  static constexpr size_t kLineCounters = 64;  // a core's cache line

  enum class State : uint8_t { kFree, kFilling, kReady };
  struct Slot {
    uint32_t tag = 0;
    uint32_t used = 0;  // the batch that found it last
    uint8_t count = 0;  // how often it was asked for of late
    State state = State::kFree;
  };
  struct Line {
    alignas(kLineCounters) std::array<uint8_t, kLineCounters> counters{};
  };

  RowCache(NgramColumns columns, size_t sets, uint8_t* rows, uint64_t row_memory);

  bool Holds(size_t slot, size_t layer_index, std::span<const int64_t> ids) const;
  using Counters = std::array<uint8_t*, 4>;
  Counters CountersOf(uint64_t hash);
  // Counts once; how often that was so far.
  uint8_t CountOnce(uint64_t hash);
  void Age();

  const NgramColumns columns_;
  const uint32_t slot_rows_;
  const size_t sets_;
  uint8_t* const rows_;
  const uint64_t row_memory_;
  uint64_t bytes_ = 0;
  std::vector<Slot> slots_;
  std::vector<int64_t> keys_;  // [slots, 1 + slot_rows]: layer, ids, then -1
  std::vector<Line> sketch_;
  uint64_t counted_ = 0;  // since the counters were halved
  uint32_t batch_ = 1;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_ROW_CACHE_H_

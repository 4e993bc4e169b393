// Rows of a disk that are asked for often, in memory.
#ifndef ENGRAM_STORAGE_DISK_DISK_ROW_CACHE_H_
#define ENGRAM_STORAGE_DISK_DISK_ROW_CACHE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/arena.h"

namespace engram {

// A row of a cache: its place in the shard (RangeIndex), and how often it was asked for lately.
struct HotRow {
  uint32_t place = 0;
  uint8_t uses = 0;
};

// Sets of twelve rows, a row's set being a hash of its place; all that is known of a set lies in
// one cache line. Admission is that of W-TinyLFU, set by set: a row that comes from the disk is
// kept in the set's window (one row) until the next one comes; then it stays for good if it was
// asked for more often than the least used of the other eleven, whose row it takes. What rows
// outside were asked for is known from a sketch that halves its counts now and then, so a scan
// displaces nothing but windows.
//
// Any number of threads. A set is locked, by a bit in its line, while a row of it is copied.
class DiskRowCache {
 public:
  static constexpr size_t kWays = 12;
  // "No row": gives zeros, and is no miss.
  static constexpr uint64_t kNoPlace = ~uint64_t{0};

  // As many rows as fit into `bytes`, all that the cache itself takes included; at least one set.
  // ResourceExhausted as Arena.
  static absl::StatusOr<std::unique_ptr<DiskRowCache>> Create(uint32_t row_bytes, uint64_t bytes);

  uint64_t rows() const { return sets_ * kWays; }  // that it has room for

  // Copies the rows that are here to out + i * row_bytes, with their checksums where those are not
  // null, and appends the positions i of the others to `misses`.
  void Get(std::span<const uint64_t> places, uint8_t* out, uint32_t* checksums,
           std::vector<uint32_t>& misses);
  // The row is not here from now on.
  void Forget(uint64_t place);
  // A row that was read because Get missed it.
  void Offer(uint64_t place, const uint8_t* row, uint32_t checksum);

  // Rows that are here, by place.
  std::vector<HotRow> HotRows() const;
  // Puts a row where there is room.
  void Put(HotRow hot, const uint8_t* row, uint32_t checksum);

 private:
  struct Set;

  DiskRowCache(uint32_t row_bytes, uint64_t sets, Arena sets_memory, Arena rows, Arena sketch);
  uint64_t SetOf(uint64_t place) const;
  Set& SetAt(uint64_t set) const;
  uint8_t* RowAt(uint64_t set, size_t way) const;
  template <size_t kRowBytes>  // 0: known at run time alone
  void GetRows(std::span<const uint64_t> places, uint8_t* out, uint32_t* checksums,
               std::vector<uint32_t>& misses);
  void Write(uint64_t set, size_t way, HotRow hot, const uint8_t* row, uint32_t checksum);
  // Makes the counts of a set, which is locked, those of the present age.
  void Age(Set& set);
  void AgeSketch();
  // Four counters of one line. Returns the least of them, after having counted one use.
  uint8_t Count(uint64_t place);
  // Remembers what a row was used that leaves.
  void Remember(uint64_t place, uint8_t uses);

  const uint32_t row_bytes_;
  const size_t slot_bytes_;  // a row and its checksum
  const uint64_t sets_;
  const Arena sets_memory_, rows_, sketch_;
  const uint64_t sketch_lines_;
  std::atomic<uint64_t> asked_{0};
  std::atomic<uint8_t> age_{0};
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_ROW_CACHE_H_

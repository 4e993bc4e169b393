// Who brings a step's rows: servers, or a table in this process. Both into the same buffers.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_ROW_PROVIDER_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_ROW_PROVIDER_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "tests/bench/overlap/step_ids.h"
#include "tests/bench/overlap/timeline.h"

namespace engram::bench {

// Two steps may be on their way at once: the one that computes and the next. Touched when made, as
// pinned memory is.
class StepBuffers {
 public:
  static constexpr size_t kSlots = 2;

  StepBuffers(size_t tables, size_t bytes) {
    for (auto& slot : slots_) slot.assign(tables, std::vector<uint8_t>(bytes));
  }
  // [tokens, columns, row_bytes] of a table.
  std::span<uint8_t> Rows(size_t slot, size_t table) { return slots_[slot][table]; }

 private:
  std::array<std::vector<std::vector<uint8_t>>, kSlots> slots_;
};

// When all rows of a layer were in place, as seen by the thread that put the last one there (or
// when that had failed): not when the waiting worker woke.
struct Arrival {
  Clock::time_point at;
  absl::Status status;
};

// For one thread. Every Ask of a (slot, table) is followed by one Wait for it before the next.
class RowProvider {
 public:
  virtual ~RowProvider() = default;

  // Begins to bring the rows of `tables` (places in the geometry's order, the nearest layer first)
  // and returns. `ids` is borrowed until their Waits have returned.
  virtual void Ask(size_t slot, const StepIds& ids, std::span<const size_t> tables) = 0;
  // Returns when the rows of a table are in place, or have failed to come.
  virtual Arrival Wait(size_t slot, size_t table) = 0;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_ROW_PROVIDER_H_

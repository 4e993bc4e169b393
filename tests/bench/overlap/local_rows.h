#ifndef ENGRAM_TESTS_BENCH_OVERLAP_LOCAL_ROWS_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_LOCAL_ROWS_H_

#include <array>
#include <deque>
#include <thread>
#include <vector>

#include "proto/base/mutex.h"
#include "proto/geometry.h"
#include "storage/row_store.h"
#include "tests/bench/overlap/row_provider.h"

namespace engram::bench {

// Rows from a table in this process's memory, as an engine without servers keeps it: one helper
// thread copies them while the layers compute. It polls for `spin` before it sleeps, as the
// client's I/O thread does.
class LocalRows final : public RowProvider {
 public:
  // Borrows all.
  LocalRows(const RowStore& store, const Geometry& geometry, StepBuffers& buffers,
            Clock::duration spin);
  ~LocalRows() override;

  void Ask(size_t slot, const StepIds& ids, std::span<const size_t> tables) override;
  Arrival Wait(size_t slot, size_t table) override;

 private:
  struct Order {
    size_t slot;
    size_t table;
    const std::vector<int64_t>* ids;
  };
  struct Place {
    bool done = false;
    Arrival arrival;
  };

  void Run();
  // False: the end.
  bool Next(Order& order);
  Arrival Gather(const Order& order);

  const RowStore& store_;
  const Geometry& geometry_;
  StepBuffers& buffers_;
  const Clock::duration spin_;
  std::atomic<uint64_t> asked_{0};  // orders and the end, for whoever polls
  Mutex mutex_;
  CondVar changed_;
  std::deque<Order> orders_ ABSL_GUARDED_BY(mutex_);
  std::array<std::vector<Place>, StepBuffers::kSlots> places_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // the last: it uses all of the above
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_LOCAL_ROWS_H_

#ifndef ENGRAM_TESTS_BENCH_OVERLAP_REMOTE_ROWS_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_REMOTE_ROWS_H_

#include <array>
#include <atomic>
#include <vector>

#include "client/client.h"
#include "tests/bench/overlap/row_provider.h"

namespace engram::bench {

// Rows from servers through the client library. A lookup per table, all submitted one behind the
// other, the nearest first: a lookup's on_done tells when its last row was in place, and the wire
// carries the same requests as for one lookup of several layers.
class RemoteRows final : public RowProvider {
 public:
  // Borrows both. `timeout` of one lookup.
  RemoteRows(Client& client, StepBuffers& buffers, LookupPriority priority, absl::Duration timeout);

  void Ask(size_t slot, const StepIds& ids, std::span<const size_t> tables) override;
  Arrival Wait(size_t slot, size_t table) override;

 private:
  struct Pending {
    std::atomic<Clock::rep> arrived{0};  // since the clock's epoch; by the client's I/O thread
    absl::StatusOr<Ticket> ticket = Ticket();  // below what its on_done writes
  };

  Client& client_;
  StepBuffers& buffers_;
  const LookupPriority priority_;
  const absl::Duration timeout_;
  std::array<std::vector<Pending>, StepBuffers::kSlots> pending_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_REMOTE_ROWS_H_

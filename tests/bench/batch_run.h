// The batches of one measured run: which rows are asked for next, where they go, how long they
// took.
#ifndef ENGRAM_TESTS_BENCH_BATCH_RUN_H_
#define ENGRAM_TESTS_BENCH_BATCH_RUN_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/time/time.h"

namespace engram::bench {

struct BatchRunOptions {
  std::span<const int64_t> ids;  // batches are taken in order, then again from the first
  uint32_t batch = 0;            // rows each
  uint32_t depth = 0;            // in flight at most
  uint32_t row_bytes = 0;
  absl::Duration time;
  // Looks at every row that came, [ids, row_bytes]; false: a wrong one. Null: nobody looks.
  std::function<bool(std::span<const int64_t> ids, const uint8_t* rows)> check;
  // Where batches go, in turn, each [batch, row_bytes]; at least `depth` of them. Empty: into so
  // many of the run's own, which the core's cache may hold.
  std::vector<std::span<uint8_t>> into = {};
};

// Not thread-safe. Buffers of its own lie at fixed addresses, touched before the clock starts.
class BatchRun {
 public:
  using Clock = std::chrono::steady_clock;

  struct Batch {
    std::span<const int64_t> ids;
    std::span<uint8_t> out;  // [ids, row_bytes]
    Clock::time_point asked;
  };

  explicit BatchRun(BatchRunOptions options);

  // The next batch to ask for, its clock started; null when `depth` are out or the time is over.
  // The first call starts the run's clock.
  Batch* Next();
  // The batch's rows are in place.
  void Done(Batch& batch);

  size_t in_flight() const { return out_; }

  // Of the batches that were done within the time.
  double rows_per_s() const;
  double percentile_us(double share) const;  // from asked to in place
  uint64_t batches() const { return latencies_us_.size(); }
  uint64_t wrong_batches() const { return wrong_batches_; }
  double seconds() const { return seconds_; }

 private:
  BatchRunOptions options_;
  std::vector<uint8_t> own_;  // buffers, where none were given
  std::vector<Batch> batches_;
  std::vector<Batch*> free_;
  size_t next_id_ = 0;
  size_t next_buffer_ = 0;
  size_t out_ = 0;
  Clock::time_point start_;
  Clock::time_point end_;
  bool started_ = false;
  double seconds_ = 0;  // from the start to the last batch that counts
  std::vector<float> latencies_us_;
  uint64_t wrong_batches_ = 0;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_BATCH_RUN_H_

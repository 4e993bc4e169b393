#include "tests/bench/batch_run.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace engram::bench {

BatchRun::BatchRun(BatchRunOptions options)
    : options_(std::move(options)), batches_(options_.depth) {
  const size_t bytes = size_t{options_.batch} * options_.row_bytes;
  if (options_.into.empty()) own_.assign(bytes * options_.depth, 0xA5);
  for (size_t at = 0; at < own_.size(); at += bytes) {
    options_.into.push_back(std::span(own_).subspan(at, bytes));
  }
  for (Batch& batch : batches_) free_.push_back(&batch);
  latencies_us_.reserve(1 << 20);
}

BatchRun::Batch* BatchRun::Next() {
  const Clock::time_point now = Clock::now();
  if (!started_) {
    started_ = true;
    start_ = now;
    end_ = now + absl::ToChronoNanoseconds(options_.time);
  }
  if (free_.empty() || now >= end_) return nullptr;
  Batch* const batch = free_.back();
  free_.pop_back();
  if (next_id_ + options_.batch > options_.ids.size()) next_id_ = 0;
  batch->ids = options_.ids.subspan(next_id_, options_.batch);
  next_id_ += options_.batch;
  batch->out = options_.into[next_buffer_];
  next_buffer_ = (next_buffer_ + 1) % options_.into.size();
  batch->asked = now;
  ++out_;
  return batch;
}

void BatchRun::Done(Batch& batch) {
  const Clock::time_point now = Clock::now();
  --out_;
  free_.push_back(&batch);
  if (options_.check && !options_.check(batch.ids, batch.out.data())) ++wrong_batches_;
  if (now > end_) return;
  latencies_us_.push_back(std::chrono::duration<float, std::micro>(now - batch.asked).count());
  seconds_ = std::chrono::duration<double>(now - start_).count();
}

double BatchRun::rows_per_s() const {
  if (seconds_ == 0) return 0;
  return static_cast<double>(latencies_us_.size()) * options_.batch / seconds_;
}

double BatchRun::percentile_us(double share) const {
  if (latencies_us_.empty()) return 0;
  std::vector<float> values = latencies_us_;
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace engram::bench

// When the layers of one model step begin, stalls included. Pure: knows times, no clock.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_TIMELINE_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_TIMELINE_H_

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

namespace engram::bench {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC

// A shorter wait is none: what reads the clock and wakes a thread takes as long.
inline constexpr Clock::duration kLeastStall = std::chrono::microseconds(10);

// Times are absolute, so that a worker that wakes late at one layer does not move the next; only
// waiting for rows does, as it would on a GPU. For one thread.
class StepTimeline {
 public:
  StepTimeline(Clock::time_point launch, const std::vector<std::chrono::nanoseconds>& layers);

  // `offset` of computing after the launch, and whatever was stalled until now.
  Clock::time_point At(Clock::duration offset) const { return launch_ + offset + stalled_; }
  Clock::time_point LayerBegins(size_t layer) const { return At(begins_[layer]); }
  Clock::time_point Ends() const { return At(begins_.back()); }

  // Rows that were wanted at `wanted` were in place at `arrived`: everything that is left moves by
  // the difference, unless that is below kLeastStall. Returns by how much.
  Clock::duration Wait(Clock::time_point wanted, Clock::time_point arrived);

 private:
  const Clock::time_point launch_;
  std::vector<Clock::duration> begins_;  // of every layer, then the end of the last
  Clock::duration stalled_{0};
};

// What happens in a step, in its order: the worker sleeps until `offset`, then does it.
struct StepEvent {
  Clock::duration offset;       // of computing since the launch
  std::optional<size_t> table;  // index of the table whose rows the layer wants; none: the next
                                // step's ids become known
};

// `table_layers`: the model layers that read tables, ascending. Ids that are known zero before
// the next step are no event of this one.
std::vector<StepEvent> EventsOfStep(const std::vector<std::chrono::nanoseconds>& layers,
                                    const std::vector<uint32_t>& table_layers,
                                    std::chrono::nanoseconds known_ahead);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_TIMELINE_H_

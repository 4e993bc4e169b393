#include "tests/bench/overlap/timeline.h"

#include <algorithm>
#include <numeric>

namespace engram::bench {

StepTimeline::StepTimeline(Clock::time_point launch,
                           const std::vector<std::chrono::nanoseconds>& layers)
    : launch_(launch), begins_{Clock::duration(0)} {
  for (const std::chrono::nanoseconds layer : layers) begins_.push_back(begins_.back() + layer);
}

Clock::duration StepTimeline::Wait(Clock::time_point wanted, Clock::time_point arrived) {
  const Clock::duration stall = arrived - wanted;
  if (stall < kLeastStall) return Clock::duration(0);
  stalled_ += stall;
  return stall;
}

std::vector<StepEvent> EventsOfStep(const std::vector<std::chrono::nanoseconds>& layers,
                                    const std::vector<uint32_t>& table_layers,
                                    std::chrono::nanoseconds known_ahead) {
  std::vector<StepEvent> events;
  const auto begin_of = [&](size_t layer) {
    return std::accumulate(layers.begin(), layers.begin() + static_cast<ptrdiff_t>(layer),
                           Clock::duration(0));
  };
  if (known_ahead > Clock::duration(0)) {
    events.push_back({begin_of(layers.size()) - known_ahead, std::nullopt});
  }
  for (size_t table = 0; table < table_layers.size(); ++table) {
    events.push_back({begin_of(table_layers[table]), table});
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const StepEvent& a, const StepEvent& b) { return a.offset < b.offset; });
  return events;
}

}  // namespace engram::bench

#include "tests/bench/overlap/step_run.h"

#include <sys/prctl.h>

#include <cerrno>
#include <ctime>
#include <numeric>

namespace engram::bench {
namespace {

void SleepUntil(Clock::time_point time) {
  const int64_t ns = std::chrono::nanoseconds(time.time_since_epoch()).count();
  const timespec at{ns / 1'000'000'000, ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

class Runner {
 public:
  explicit Runner(const StepRun& run)
      : run_(run),
        events_(EventsOfStep(run.shape.layers, run.table_layers, run.shape.known_ahead)),
        all_tables_(run.table_layers.size()) {
    std::iota(all_tables_.begin(), all_tables_.end(), size_t{0});
    // By default the kernel lets a sleeper oversleep by another 50 us to save wake-ups.
    prctl(PR_SET_TIMERSLACK, 1UL);
  }

  std::vector<StepRecord> Run() {
    if (run_.shape.known_ahead > Clock::duration(0)) LeadIn();
    std::vector<StepRecord> records(run_.shape.steps);
    for (size_t step = 0; step < records.size(); ++step) {
      if (run_.before_step) run_.before_step(step);
      records[step] = Step(step);
    }
    return records;
  }

 private:
  bool asks_ahead() const {
    return run_.variant == Variant::kAhead || run_.variant == Variant::kLocal;
  }
  const StepIds& IdsOf(size_t step) const { return run_.ids[run_.first_step + step]; }
  static size_t SlotOf(size_t step) { return step % StepBuffers::kSlots; }

  // Time of the same layers, in which only the first step's ids become known.
  void LeadIn() {
    const StepTimeline timeline(Clock::now(), run_.shape.layers);
    SleepUntil(timeline.At(run_.shape.step() - run_.shape.known_ahead));
    AskAhead(0);
    SleepUntil(timeline.Ends());
  }

  Clock::duration AskAhead(size_t step) {
    if (!asks_ahead() || step >= run_.shape.steps) return Clock::duration(0);
    const Clock::time_point asked = asked_[SlotOf(step)] = Clock::now();
    run_.rows->Ask(SlotOf(step), IdsOf(step), all_tables_);
    return Clock::now() - asked;
  }

  StepRecord Step(size_t step) {
    StepRecord record;
    record.begin = Clock::now();
    StepTimeline timeline(record.begin, run_.shape.layers);
    if (run_.shape.known_ahead == Clock::duration(0)) record.asking = AskAhead(step);
    for (const StepEvent& event : events_) {
      SleepUntil(timeline.At(event.offset));
      if (!event.table.has_value()) {
        record.asking = AskAhead(step + 1);
      } else if (run_.rows != nullptr) {
        record.tables.push_back(
            WaitForRows(step, *event.table, timeline.At(event.offset), timeline));
      }
    }
    record.end = timeline.Ends();
    SleepUntil(record.end);
    record.woke_late = Clock::now() - record.end;
    return record;
  }

  TableRecord WaitForRows(size_t step, size_t table, Clock::time_point due,
                          StepTimeline& timeline) {
    TableRecord record;
    record.wanted = due;
    record.asked = asked_[SlotOf(step)];
    if (run_.variant == Variant::kNeeded) {
      record.asked = record.wanted = Clock::now();
      run_.rows->Ask(SlotOf(step), IdsOf(step), std::span(&table, 1));
    }
    const Arrival arrival = run_.rows->Wait(SlotOf(step), table);
    record.arrived = arrival.at;
    record.failed = !arrival.status.ok();
    if (run_.failure != nullptr) run_.failure->Update(arrival.status);
    record.stall = timeline.Wait(record.wanted, record.arrived);
    return record;
  }

  const StepRun& run_;
  const std::vector<StepEvent> events_;
  std::vector<size_t> all_tables_;
  Clock::time_point asked_[StepBuffers::kSlots];
};

}  // namespace

const char* NameOf(Variant variant) {
  switch (variant) {
    case Variant::kNone:
      return "none";
    case Variant::kLocal:
      return "local";
    case Variant::kNeeded:
      return "needed";
    case Variant::kAhead:
      return "ahead";
  }
  return "";
}

std::vector<StepRecord> RunSteps(const StepRun& run) { return Runner(run).Run(); }

}  // namespace engram::bench

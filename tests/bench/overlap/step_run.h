// One run: a number of steps of a shape, in one variant, on the calling thread.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_STEP_RUN_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_STEP_RUN_H_

#include <functional>
#include <vector>

#include "tests/bench/overlap/row_provider.h"
#include "tests/bench/overlap/shape.h"
#include "tests/bench/overlap/step_ids.h"

namespace engram::bench {

enum class Variant {
  kNone,    // the model without tables
  kLocal,   // rows from a table in this process, begun when the ids are known
  kNeeded,  // rows from servers, asked for when the model is at their layer
  kAhead,   // rows from servers, asked for when the ids are known
};

const char* NameOf(Variant variant);

// What happened at a layer that reads a table.
struct TableRecord {
  Clock::time_point asked;
  Clock::time_point wanted;   // the layer could begin; for kNeeded the worker was there and asked
  Clock::time_point arrived;  // all rows in place; without `failed`
  Clock::duration stall{0};
  bool failed = false;
};

// A step. That the worker wakes late from a sleep is in none of the figures: a GPU does not sleep.
struct StepRecord {
  // Layer 0 begins and, unless they were known before, the ids are known: an engine launches the
  // step first, and the worker asks for rows while layer 0 computes.
  Clock::time_point begin;
  Clock::time_point end;         // the last layer is over
  Clock::duration asking{0};     // how long asking ahead has kept the worker
  Clock::duration woke_late{0};  // at the end
  std::vector<TableRecord> tables;

  Clock::duration length() const { return end - begin; }
};

struct StepRun {
  const Shape& shape;
  Variant variant;
  const StepPool& ids;
  const std::vector<uint32_t>& table_layers;  // model layers that read tables, ascending
  RowProvider* rows;                          // null for kNone
  size_t first_step = 0;                      // of `ids`
  // Called before each step with its number; may be null.
  std::function<void(size_t step)> before_step = nullptr;
  // Gets the first failure of a lookup; the run goes on, its layer waited until it had failed.
  absl::Status* failure = nullptr;
};

// The shape's steps, one behind the other without a gap. Where ids are known before the step, one
// step more runs first, without rows of its own, so that there is a time before.
// In every variant the worker sleeps to the absolute times of the layers (clock_nanosleep).
std::vector<StepRecord> RunSteps(const StepRun& run);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_STEP_RUN_H_

// Measures one shape: rounds of all variants in turns, and every row of a step checked.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_MEASUREMENT_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_MEASUREMENT_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/token_trace.h"
#include "storage/table.h"
#include "storage/table_reader.h"
#include "tests/bench/disturbance.h"
#include "tests/bench/overlap/fleet.h"
#include "tests/bench/overlap/shape.h"
#include "tests/bench/overlap/step_run.h"

namespace engram::bench {

// What all shapes are measured with; borrowed.
struct Bench {
  const Table& local;          // the whole table, in this process
  const TableReader& checked;  // of the same checkpoint
  const TokenTrace& trace;
  Fleet* fleet = nullptr;            // servers of our own, or
  std::vector<std::string> servers;  // servers that run already
  absl::Duration spin;  // of the client's I/O thread, Wait, and the local table's thread
  uint32_t io_threads = 1;
};

struct Measurement {
  Shape shape;
  std::vector<uint32_t> table_layers;
  std::map<Variant, std::vector<std::vector<StepRecord>>> runs;  // by round
  uint64_t rows_per_step = 0;
  uint64_t bytes_per_step = 0;
  uint64_t checked_rows = 0;
  uint64_t wrong_rows = 0;
  uint64_t failed = 0;  // lookups, each of one layer
  std::string first_failure;
  Disturbance::Shares disturbance;
};

// Replica shapes need bench.fleet, and have no variant kNeeded.
// FailedPrecondition: a replica shape without it. The codes of Client::Connect. A lookup that fails
// is counted, not returned.
absl::StatusOr<Measurement> Measure(const Bench& bench, const Shape& shape);

// Rows a second of one client that keeps two lookups of 8,192 tokens, all layers, in flight.
absl::StatusOr<double> MeasureRowRate(const Bench& bench, absl::Duration time);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_MEASUREMENT_H_

// `engram-bench disk`: a shard on disk, behind a cache of rows, under real text.
#ifndef ENGRAM_TESTS_BENCH_DISK_H_
#define ENGRAM_TESTS_BENCH_DISK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct DiskBenchOptions {
  std::string trace = "deploy/data/kjv.tok";
  std::string tokenizer = "build/tokenizer/tokenizer.json";  // of the trace's token ids
  std::string directory;                             // for table and database; empty: temporary
  uint64_t rows = 4'800'000;                         // of each of the table's two layers
  std::vector<double> budgets = {1, 5, 10, 25, 50};  // of the table's bytes, per cent
  uint32_t chunk = 512;                              // tokens whose rows are asked for at once
  uint64_t warm_tokens = 300'000;                    // the last ones of the trace's first half
  uint64_t tokens = 50'000;                          // measured: the first of its second half
  uint32_t read_threads = 16;
  bool direct_reads = true;  // while measuring; the cache is filled through the page cache
};

// The figures as tests/bench/README.md defines them. Internal: a wrong row. Codes of what it opens.
absl::StatusOr<nlohmann::json> RunDiskBench(const DiskBenchOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_DISK_H_

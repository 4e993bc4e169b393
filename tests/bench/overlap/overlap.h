// `engram-bench overlap`: how long a model's layers wait for rows.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_OVERLAP_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_OVERLAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tests/bench/overlap/shape.h"

namespace engram::bench {

struct OverlapOptions {
  std::vector<std::string> shapes;   // names; empty: all (with --servers those of one server), or
  std::optional<Shape> custom;       // this one alone
  uint32_t steps = 0;                // of every run; 0: the shape's
  uint32_t rounds = 0;               // 0: the shape's
  std::vector<std::string> servers;  // empty: starts its own
  std::string checkpoint;            // of the servers; empty: makes a synthetic one
  uint64_t bucket_floor = 80'000;    // of the synthetic one: 1 GB
  std::string trace;                 // token ids
  std::string link;                  // as LinkOptions::Parse; empty: loopback
  std::string svg;                   // file for a picture of the first shape; empty: none
  absl::Duration spin;               // of the client's threads and the local table's
  absl::Duration server_spin;
  uint32_t io_threads = 1;
};

// The report as tests/bench/README.md describes it.
// InvalidArgument, NotFound: options, named. The codes of the parts otherwise.
absl::StatusOr<nlohmann::json> RunOverlap(const OverlapOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_OVERLAP_H_

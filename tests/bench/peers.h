// `engram-bench peers`: the same batches of rows from us and from others, interleaved in one run.
#ifndef ENGRAM_TESTS_BENCH_PEERS_H_
#define ENGRAM_TESTS_BENCH_PEERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace engram::bench {

struct PeersOptions {
  std::vector<std::string> only;  // names of peers beside engram; empty: all
  std::string directory;          // for tables and files; empty: a temporary one under TMPDIR
  std::vector<uint32_t> batches = {16, 512, 4096, 16384};
  uint32_t rounds = 4;
  uint64_t rows = 4'000'000;         // of the tables that all peers hold
  uint64_t large_rows = 16'300'000;  // of those of the bare pair and us alone (4 GiB); 0: none
  absl::Duration time = absl::Seconds(1);  // of one run
  // How long both sides poll before they sleep; CPU seconds are of servers that do not poll.
  absl::Duration spin = absl::Milliseconds(1);
};

// The figures as tests/bench/README.md defines them. Internal: a peer gave a wrong row.
absl::StatusOr<nlohmann::json> RunPeers(const PeersOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_H_

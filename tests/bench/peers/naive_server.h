// The server of the naive peer: a vector of rows behind gRPC's synchronous interface.
#ifndef ENGRAM_TESTS_BENCH_PEERS_NAIVE_SERVER_H_
#define ENGRAM_TESTS_BENCH_PEERS_NAIVE_SERVER_H_

#include <cstdint>

#include "absl/status/status.h"

namespace engram::bench {

// Serves rows 0 .. rows - 1 on a free port of loopback until SIGTERM or SIGINT. Prints one line
// "port N" when it is ready. Call it before the process has other threads: they would have to block
// those signals too.
absl::Status RunNaiveServer(uint64_t rows);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_NAIVE_SERVER_H_

// A measured run of lookups through the client library.
#ifndef ENGRAM_TESTS_BENCH_ASK_CLIENT_H_
#define ENGRAM_TESTS_BENCH_ASK_CLIENT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "client/client.h"
#include "tests/bench/batch_run.h"

namespace engram::bench {

// Looks up every batch that `run` hands out, from the client's own I/O threads: each lookup that is
// done submits the next one, so that no other thread works or has to be woken. Returns when none is
// left and none is in flight; the first failure ends the run.
absl::Status AskClient(Client& client, uint32_t layer, LookupPriority priority, BatchRun& run);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_ASK_CLIENT_H_

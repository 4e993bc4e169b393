// The bare epoll server that ours is held against: same table, same gather, no gRPC, no checks.
#ifndef ENGRAM_TESTS_BENCH_PEERS_RAW_SERVER_H_
#define ENGRAM_TESTS_BENCH_PEERS_RAW_SERVER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace engram::bench {

struct RawServerOptions {
  std::string checkpoint;
  std::string shard_map;  // file; of it the shard `measured` is loaded
  absl::Duration spin;    // how long it polls before it sleeps
};

// Loads the table, prints "port N" and serves layer kPeerLayer from one thread until SIGTERM.
absl::Status RunRawServer(const RawServerOptions& options);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PEERS_RAW_SERVER_H_

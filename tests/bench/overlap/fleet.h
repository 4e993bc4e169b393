// The servers that a benchmark of overlap starts, and what it does to them.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_FLEET_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_FLEET_H_

#include <signal.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/bench/engramd_process.h"
#include "tests/bench/overlap/link.h"

namespace engram::bench {

struct FleetOptions {
  std::string checkpoint;
  int64_t spin_us = 0;
  const Link* link = nullptr;  // not null: servers run on its far side
};

// Servers of the whole table each.
class Fleet {
 public:
  explicit Fleet(FleetOptions options) : options_(std::move(options)) {}

  // Starts what is missing to `count` servers; one that was killed starts again at its address.
  absl::Status Ensure(size_t count);
  // Stops all but the first.
  void KeepOne();
  // Returns at once, unlike Reap.
  void Signal(size_t server, int signal) const;
  // Waits until a server that was killed is gone.
  void Reap(size_t server);

  std::vector<std::string> addresses() const;
  std::vector<pid_t> pids() const;

 private:
  absl::StatusOr<std::unique_ptr<EngramdProcess>> Start(const std::string& listen) const;

  struct Server {
    std::string address;
    std::unique_ptr<EngramdProcess> process;  // null: killed and reaped
  };

  const FleetOptions options_;
  std::vector<Server> servers_;
};

// A process that gets a tenth of its time: stopped for 9 of every 10 ms, by a thread that sleeps in
// between. As it was when this is gone.
class Slowdown {
 public:
  explicit Slowdown(pid_t pid);
  ~Slowdown();

 private:
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_FLEET_H_

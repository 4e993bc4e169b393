// Whether a run had the machine to itself.
#ifndef ENGRAM_TESTS_BENCH_DISTURBANCE_H_
#define ENGRAM_TESTS_BENCH_DISTURBANCE_H_

#include <sys/types.h>

#include <chrono>
#include <vector>

namespace engram::bench {

// Starts to watch when made. Counts time that the hypervisor took (steal) and time of processes
// other than this one and `ours`, from /proc/stat.
class Disturbance {
 public:
  explicit Disturbance(std::vector<pid_t> ours);

  // Shares of one core's time since the start.
  struct Shares {
    double steal = 0;
    double foreign = 0;
    // A run counts when both are below 2 %.
    bool clean() const { return steal < 0.02 && foreign < 0.02; }
  };
  Shares Measure() const;

 private:
  struct Times {
    double steal_s = 0;
    double busy_s = 0;  // of all processes
    double ours_s = 0;
  };
  Times Read() const;

  const std::vector<pid_t> ours_;
  const std::chrono::steady_clock::time_point start_;
  const Times before_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_DISTURBANCE_H_

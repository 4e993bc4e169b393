// A server that a benchmark starts, on a core of its own, and stops.
#ifndef ENGRAM_TESTS_BENCH_CHILD_PROCESS_H_
#define ENGRAM_TESTS_BENCH_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace engram::bench {

// Ends with its parent, also when that is killed. Movable by its unique_ptr alone.
class ChildProcess {
 public:
  // Runs argv[0] (found on PATH) with its standard error ours and its standard output to be read by
  // ReadLine. `core` < 0: any. Errors of exec come as the end of its output.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& argv,
                                                             int core);
  // SIGTERM; SIGKILL after five seconds. Waits.
  ~ChildProcess();

  // The next line of its standard output. Unavailable: it has ended; DeadlineExceeded.
  absl::StatusOr<std::string> ReadLine(absl::Duration timeout);

  pid_t pid() const { return pid_; }

 private:
  ChildProcess(std::string name, pid_t pid, int out)
      : name_(std::move(name)), pid_(pid), out_(out) {}

  const std::string name_;
  const pid_t pid_;
  const int out_;  // owned
  std::string buffered_;
};

// Ties the calling thread, and every thread that it starts from now on, to one core.
absl::Status PinToCore(int core);

// The directory of this program, where its siblings (engramd) are.
absl::StatusOr<std::string> OwnDirectory();

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_CHILD_PROCESS_H_

// The real server, started for a benchmark and stopped after it.
#ifndef ENGRAM_TESTS_BENCH_ENGRAMD_PROCESS_H_
#define ENGRAM_TESTS_BENCH_ENGRAMD_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/bench/child_process.h"

namespace engram::bench {

class EngramdProcess {
 public:
  // Runs the engramd beside this program with these flags and "--listen 127.0.0.1:0" (unless they
  // say where), and returns when it serves. `core` < 0: any.
  static absl::StatusOr<std::unique_ptr<EngramdProcess>> Start(std::vector<std::string> flags,
                                                               int core);

  const std::string& address() const { return address_; }
  pid_t pid() const { return process_->pid(); }

 private:
  EngramdProcess(std::unique_ptr<ChildProcess> process, std::string address)
      : process_(std::move(process)), address_(std::move(address)) {}

  const std::unique_ptr<ChildProcess> process_;
  const std::string address_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_ENGRAMD_PROCESS_H_

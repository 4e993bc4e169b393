// CPU time of this process and of servers on this machine.
#ifndef ENGRAM_TESTS_BENCH_PROCESS_CPU_H_
#define ENGRAM_TESTS_BENCH_PROCESS_CPU_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace engram::bench {

// User and system seconds of this process, all threads.
double OwnCpuSeconds();

// The processes that listen on `addresses` ("host:port" on loopback, or "unix:PATH"), each once.
// nullopt when one of them is elsewhere or may not be seen: a part would be a wrong figure.
std::optional<std::vector<pid_t>> FindListeners(const std::vector<std::string>& addresses);

// User and system seconds of all of `pids`; nullopt when one is gone.
std::optional<double> CpuSeconds(const std::vector<pid_t>& pids);

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_PROCESS_CPU_H_

#include "tests/bench/disturbance.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <string>

#include "tests/bench/process_cpu.h"

namespace engram::bench {

Disturbance::Disturbance(std::vector<pid_t> ours)
    : ours_(std::move(ours)), start_(std::chrono::steady_clock::now()), before_(Read()) {}

Disturbance::Times Disturbance::Read() const {
  // cpu user nice system idle iowait irq softirq steal
  std::ifstream stat("/proc/stat");
  std::string cpu;
  std::array<double, 8> ticks{};
  stat >> cpu;
  for (double& value : ticks) stat >> value;
  const double hertz = static_cast<double>(sysconf(_SC_CLK_TCK));
  Times times;
  times.steal_s = ticks[7] / hertz;
  // Without interrupts: those of our own traffic belong to no process.
  times.busy_s = (ticks[0] + ticks[1] + ticks[2]) / hertz;
  times.ours_s = OwnCpuSeconds() + CpuSeconds(ours_).value_or(0);
  return times;
}

Disturbance::Shares Disturbance::Measure() const {
  const Times now = Read();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double busy = now.busy_s - before_.busy_s;
  const double ours = now.ours_s - before_.ours_s;
  return {(now.steal_s - before_.steal_s) / seconds, (busy - ours) / seconds};
}

}  // namespace engram::bench

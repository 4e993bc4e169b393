#include "tests/bench/load.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "storage/arena.h"
#include "storage/checkpoint.h"
#include "storage/table.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

uint64_t ResidentPeakBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    uint64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

// Touches and gives back `bytes` of memory, in a process of its own, so that what is measured next
// gets memory that is there: hypervisors take back what a guest has freed, and the first touch of
// such memory costs several times a copy.
absl::Status WarmMemory(uint64_t bytes) {
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) {
    const absl::StatusOr<Arena> arena = Arena::Create(bytes);
    if (!arena.ok()) _exit(1);
    for (uint64_t at = 0; at < bytes; at += 4096) arena->data()[at] = 1;
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0 ? absl::OkStatus() : absl::InternalError("cannot touch the table's memory");
}

// What a child process has measured.
struct Measured {
  double seconds = 0;
  uint64_t resident_bytes = 0;
  bool ok = false;
};

// Runs `work` in a process of its own, on the first core alone where `one_core`.
absl::StatusOr<Measured> InChild(bool one_core, const std::function<Measured()>& work) {
  std::array<int, 2> ends;
  if (pipe(ends.data()) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) {
    if (one_core) {
      cpu_set_t core;
      CPU_ZERO(&core);
      CPU_SET(0, &core);
      sched_setaffinity(0, sizeof(core), &core);
    }
    const Measured measured = work();
    const bool told = write(ends[1], &measured, sizeof(measured)) == sizeof(measured);
    _exit(told ? 0 : 1);
  }
  close(ends[1]);
  Measured measured;
  const bool got = read(ends[0], &measured, sizeof(measured)) == sizeof(measured);
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!got || !measured.ok) return absl::InternalError("a measured process failed (see above)");
  return measured;
}

// `cat` of every file to one on the tmpfs: one after the other, or all at once.
Measured Copy(const std::vector<std::string>& files, const std::string& tmpfs, bool one_core) {
  std::string script;
  std::string remove = "rm -f";
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string out = absl::StrCat(tmpfs, "/engram-bench-load.", getpid(), ".", i);
    absl::StrAppend(&script, "cat '", files[i], "' > ", out, one_core ? " && " : " & ");
    absl::StrAppend(&remove, " ", out);
  }
  absl::StrAppend(&script, one_core ? "true" : "wait");
  const absl::Time start = absl::Now();
  const bool ok = std::system(script.c_str()) == 0;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return {seconds, 0, std::system(remove.c_str()) == 0 && ok};
}

Measured Load(const std::string& checkpoint, uint32_t threads) {
  LoadOptions options;
  options.checkpoint = checkpoint;
  options.threads = threads;
  const absl::Time start = absl::Now();
  const absl::StatusOr<Table> table = LoadTable(options);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (!table.ok()) fprintf(stderr, "error: %s\n", table.status().ToString().c_str());
  return {seconds, ResidentPeakBytes(), table.ok()};
}

}  // namespace

absl::StatusOr<nlohmann::json> RunLoad(const LoadBenchOptions& options) {
  if (options.rounds == 0) return absl::InvalidArgumentError("--rounds is 0");
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.checkpoint));
  const uint64_t rows = checkpoint.geometry().total_rows();
  const uint64_t needed = rows * (checkpoint.layout().row_bytes() + sizeof(uint32_t));
  const double gb = static_cast<double>(rows * checkpoint.layout().row_bytes()) / 1e9;
  std::vector<std::string> files;
  double file_gb = 0;
  for (const auto& [name, stamp] : checkpoint.files()) {
    files.push_back(absl::StrCat(options.checkpoint, "/", name));
    file_gb += static_cast<double>(stamp.size) / 1e9;
  }
  nlohmann::json report = {{"table_gb", gb}, {"rounds", options.rounds}};
  uint64_t resident = 0;
  for (const bool one_core : {true, false}) {
    const uint32_t cores = one_core ? 1 : std::max(1u, std::thread::hardware_concurrency());
    std::vector<double> loads, copies, ratios;
    for (uint32_t round = 0; round <= options.rounds; ++round) {
      RETURN_IF_ERROR(WarmMemory(needed));
      ASSIGN_OR_RETURN(const Measured copy,
                       InChild(one_core, [&] { return Copy(files, options.tmpfs, one_core); }));
      RETURN_IF_ERROR(WarmMemory(needed));
      ASSIGN_OR_RETURN(const Measured load,
                       InChild(one_core, [&] { return Load(options.checkpoint, cores); }));
      resident = std::max(resident, load.resident_bytes);
      if (round == 0) continue;
      loads.push_back(gb / load.seconds);
      copies.push_back(file_gb / copy.seconds);
      ratios.push_back(loads.back() / copies.back());
    }
    report[one_core ? "one_core" : "all_cores"] = {{"cores", cores},
                                                   {"load_gb_per_s", Median(loads)},
                                                   {"cat_gb_per_s", Median(copies)},
                                                   {"ratio", Median(ratios)}};
  }
  report["resident_bytes"] = resident;
  report["row_and_checksum_bytes"] = needed;
  report["resident_ratio"] =
      (static_cast<double>(resident) - (64 << 20)) / static_cast<double>(needed);
  return report;
}

}  // namespace engram::bench

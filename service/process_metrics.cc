#include "service/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace engram {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Bytes of a line "Name:   123 kB".
bool TakeKilobytes(absl::string_view line, absl::string_view name, uint64_t& bytes) {
  if (!absl::StartsWith(line, name)) return false;
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
  uint64_t kilobytes = 0;
  if (words.size() >= 2 && absl::SimpleAtoi(words[1], &kilobytes)) bytes += kilobytes << 10;
  return true;
}

// Transparent ones and those of hugetlbfs.
uint64_t HugePageBytes() {
  uint64_t bytes = 0;
  const std::string rollup = ReadAll("/proc/self/smaps_rollup");
  for (const absl::string_view line : absl::StrSplit(rollup, '\n')) {
    for (const char* name : {"AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
                             "Shared_Hugetlb:", "Private_Hugetlb:"}) {
      if (TakeKilobytes(line, name, bytes)) break;
    }
  }
  return bytes;
}

uint64_t ResidentBytes() {
  uint64_t bytes = 0;
  const std::string status = ReadAll("/proc/self/status");
  for (const absl::string_view line : absl::StrSplit(status, '\n')) {
    TakeKilobytes(line, "VmRSS:", bytes);
    TakeKilobytes(line, "HugetlbPages:", bytes);
  }
  return bytes;
}

uint64_t OpenFds() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  uint64_t entries = 0;
  while (readdir(directory) != nullptr) ++entries;
  closedir(directory);
  return entries < 3 ? 0 : entries - 3;  // "." and "..", and what reads them
}

// Unix time: the boot's, and ticks since then.
double StartTimeSeconds() {
  const std::string stat = ReadAll("/proc/self/stat");
  const std::string kernel = ReadAll("/proc/stat");
  const size_t name_end = stat.rfind(')');  // The name may have anything in it.
  const size_t boot = kernel.find("btime ");
  if (name_end == std::string::npos || boot == std::string::npos) return 0;
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_end + 2), ' ');
  constexpr size_t kStartTime = 19;  // the 22nd field; the name is the second
  int64_t ticks = 0, boot_s = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &ticks) ||
      !absl::SimpleAtoi(kernel.substr(boot + 6, kernel.find('\n', boot) - boot - 6), &boot_s)) {
    return 0;
  }
  return static_cast<double>(boot_s) +
         static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

void AddProcessMetrics(MetricList& metrics) {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  static const double start_time = StartTimeSeconds();
  metrics.Gauge("engram_start_time_seconds", "When the process started, Unix time.", start_time);
  metrics.Gauge("engram_resident_bytes", "Memory of the process.", ResidentBytes());
  metrics.Gauge("engram_huge_page_bytes", "Of that, on huge pages.", HugePageBytes());
  metrics.Counter("engram_major_faults_total", "Pages that had to be read from a disk.",
                  static_cast<uint64_t>(usage.ru_majflt));
  metrics.Add(MetricType::kCounter, "engram_cpu_seconds_total", "CPU time of all threads.",
              Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  metrics.Gauge("engram_open_fds", "Open descriptors.", OpenFds());
}

}  // namespace engram

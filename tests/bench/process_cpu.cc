#include "tests/bench/process_cpu.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace engram::bench {
namespace {

constexpr absl::string_view kListening = "0A";  // TCP_LISTEN in /proc/net/tcp

bool IsLoopback(absl::string_view host) {
  return absl::StartsWith(host, "127.") || host == "localhost" || host == "[::1]";
}

// Adds the inodes of sockets that listen on `port`.
void AddTcpInodes(const char* table, int port, std::set<std::string>& inodes) {
  std::ifstream in(table);
  std::string line;
  while (std::getline(in, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    // sl local_address rem_address st queues timer retransmits uid timeout inode ...
    if (fields.size() < 10 || fields[3] != kListening) continue;
    const std::vector<std::string> local = absl::StrSplit(fields[1], ':');
    uint32_t local_port = 0;
    if (local.size() == 2 && absl::SimpleHexAtoi(local[1], &local_port) &&
        local_port == static_cast<uint32_t>(port)) {
      inodes.insert(fields[9]);
    }
  }
}

void AddUnixInodes(const std::string& path, std::set<std::string>& inodes) {
  std::ifstream in("/proc/net/unix");
  std::string line;
  while (std::getline(in, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() >= 8 && fields[7] == path) inodes.insert(fields[6]);
  }
}

std::set<std::string> ListeningInodes(const std::string& address) {
  std::set<std::string> inodes;
  if (absl::StartsWith(address, "unix:")) {
    AddUnixInodes(address.substr(5), inodes);
    return inodes;
  }
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      !IsLoopback(address.substr(0, colon))) {
    return inodes;
  }
  AddTcpInodes("/proc/net/tcp", port, inodes);
  AddTcpInodes("/proc/net/tcp6", port, inodes);
  return inodes;
}

bool HoldsSocket(const std::filesystem::path& process, const std::set<std::string>& inodes) {
  std::error_code error;
  for (const auto& fd : std::filesystem::directory_iterator(process / "fd", error)) {
    const std::string link = std::filesystem::read_symlink(fd.path(), error).string();
    if (!error && absl::StartsWith(link, "socket:[") &&
        inodes.count(link.substr(8, link.size() - 9)) > 0) {
      return true;
    }
  }
  return false;
}

std::optional<pid_t> FindHolder(const std::set<std::string>& inodes) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid) &&
        HoldsSocket(entry.path(), inodes)) {
      return pid;
    }
  }
  return std::nullopt;
}

}  // namespace

double OwnCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::optional<std::vector<pid_t>> FindListeners(const std::vector<std::string>& addresses) {
  std::set<pid_t> pids;
  for (const std::string& address : addresses) {
    const std::set<std::string> inodes = ListeningInodes(address);
    const std::optional<pid_t> pid = inodes.empty() ? std::nullopt : FindHolder(inodes);
    if (!pid.has_value()) return std::nullopt;
    pids.insert(*pid);
  }
  return std::vector<pid_t>(pids.begin(), pids.end());
}

std::optional<double> CpuSeconds(const std::vector<pid_t>& pids) {
  double ticks = 0;
  for (pid_t pid : pids) {
    std::ifstream in(absl::StrCat("/proc/", pid, "/stat"));
    std::stringstream text;
    text << in.rdbuf();
    const std::string stat = text.str();
    // The command's name may hold anything, so count from its closing bracket: utime and stime are
    // fields 14 and 15, the 12th and 13th after it.
    const size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) return std::nullopt;
    const std::vector<std::string> fields =
        absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
    double user = 0;
    double system = 0;
    if (fields.size() < 13 || !absl::SimpleAtod(fields[11], &user) ||
        !absl::SimpleAtod(fields[12], &system)) {
      return std::nullopt;
    }
    ticks += user + system;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace engram::bench

#include "storage/memory_available.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// Files of /proc and /sys state no size: read them to their end.
std::optional<std::string> Slurp(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The number after `key` in "key value" lines.
std::optional<uint64_t> Field(const std::string& text, absl::string_view key) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t value = 0;
    if (words.size() >= 2 && words[0] == key && absl::SimpleAtoi(words[1], &value)) return value;
  }
  return std::nullopt;
}

std::optional<uint64_t> Number(const std::string& path) {
  const std::optional<std::string> text = Slurp(path);
  uint64_t value = 0;
  if (!text.has_value() || !absl::SimpleAtoi(*text, &value)) return std::nullopt;  // "max", too
  return value;
}

struct Names {
  const char* limit;
  const char* usage;
  const char* cache;  // in memory.stat
};
constexpr Names kV2 = {"memory.max", "memory.current", "inactive_file"};
constexpr Names kV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};

// What the cgroup `path` below `mount`, and each one above it, leaves.
uint64_t CgroupAvailable(const std::string& mount, std::string path, const Names& names) {
  uint64_t least = UINT64_MAX;
  while (true) {
    const std::string directory = absl::StrCat(mount, path, "/");
    const std::optional<uint64_t> limit = Number(directory + names.limit);
    const std::optional<uint64_t> usage = Number(directory + names.usage);
    if (limit.has_value() && usage.has_value()) {
      const uint64_t cache =
          Field(Slurp(directory + "memory.stat").value_or(""), names.cache).value_or(0);
      const uint64_t used = *usage - std::min(*usage, cache);
      least = std::min(least, *limit - std::min(*limit, used));
    }
    if (path.empty()) return least;
    const size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
}

}  // namespace

absl::StatusOr<uint64_t> MemoryAvailable(const std::string& root) {
  const std::optional<uint64_t> machine_kib =
      Field(Slurp(root + "/proc/meminfo").value_or(""), "MemAvailable:");
  if (!machine_kib.has_value()) {
    return absl::NotFoundError(absl::StrCat(root, "/proc/meminfo has no MemAvailable"));
  }
  uint64_t available = *machine_kib * 1024;
  const std::string groups = Slurp(root + "/proc/self/cgroup").value_or("");
  for (const absl::string_view line : absl::StrSplit(groups, '\n')) {
    // "0::/path" is version 2; "N:controllers:/path" is version 1.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::string path(absl::StripSuffix(parts[2], "/"));
    const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
    if (parts[1].empty()) {
      available = std::min(available, CgroupAvailable(root + "/sys/fs/cgroup", path, kV2));
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      available = std::min(available, CgroupAvailable(root + "/sys/fs/cgroup/memory", path, kV1));
    }
  }
  return available;
}

}  // namespace engram

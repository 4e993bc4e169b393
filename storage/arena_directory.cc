#include "storage/arena_directory.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/file.h"

namespace engram {

namespace fs = std::filesystem;

absl::StatusOr<ArenaDirectory> ArenaDirectory::Look(const std::string& path) {
  struct statfs info;
  if (statfs(path.c_str(), &info) != 0) {
    return SystemError(errno, absl::StrCat("cannot use the arena directory ", path));
  }
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("arena directory ", path, ": no directory"));
  }
  ArenaDirectory directory;
  directory.path = path;
  directory.huge_pages = info.f_type == HUGETLBFS_MAGIC;
  if (!directory.huge_pages && info.f_type != TMPFS_MAGIC) {
    return absl::InvalidArgumentError(
        absl::StrCat("arena directory ", path, " is on neither tmpfs nor hugetlbfs"));
  }
  const auto block_bytes = static_cast<uint64_t>(info.f_bsize);
  directory.page_bytes = block_bytes;
  directory.total_bytes = info.f_blocks * block_bytes;
  directory.free_bytes = info.f_bavail * block_bytes;
  return directory;
}

std::vector<std::string> ArenaDirectory::Others(absl::string_view name) const {
  std::vector<std::string> others;
  std::error_code error;
  fs::directory_iterator it(path, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file != name && absl::StartsWith(file, "engram-") && absl::EndsWith(file, ".arena")) {
      others.push_back(absl::StrCat(path, "/", file));
    }
  }
  std::sort(others.begin(), others.end());
  return others;
}

}  // namespace engram

#include "proto/base/watched_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kMaxBytes = 1 << 20;

}  // namespace

absl::StatusOr<bool> WatchedFile::Refresh() {
  struct stat found;
  if (stat(path_.c_str(), &found) != 0) return SystemError(errno, absl::StrCat("read ", path_));
  const Version version{found.st_dev, found.st_ino, static_cast<uint64_t>(found.st_size),
                        found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec};
  if (version == version_) return false;
  ASSIGN_OR_RETURN(std::string content, ReadFile(path_, kMaxBytes));
  content_ = std::move(content);
  version_ = version;
  return true;
}

}  // namespace engram

#include "storage/disk/data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/file.h"

namespace engram {

absl::StatusOr<DataDir> DataDir::Hold(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("no data directory is named (--data-dir)");
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return SystemError(error.value(), absl::StrCat("data directory ", path));
  const std::string name = path + "/rows.lock";
  const int fd = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    const int why = errno == EROFS ? EACCES : errno;
    return SystemError(why, absl::StrCat("data directory ", path, " cannot be written to"));
  }
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return DataDir(path, fd);
  const int why = errno;
  close(fd);
  if (why != EWOULDBLOCK) return SystemError(why, absl::StrCat("lock of ", name));
  return absl::UnavailableError(
      absl::StrCat("data directory ", path, " is held by another process"));
}

absl::Status DataDir::CheckRoom(absl::string_view what, uint64_t bytes) const {
  struct statvfs disk;
  if (statvfs(path_.c_str(), &disk) != 0) return SystemError(errno, path_);
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (bytes <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s takes %d bytes (%.2f GiB) more in %s; %d bytes (%.2f GiB) are free there", what, bytes,
      static_cast<double>(bytes) / (1 << 30), path_, free, static_cast<double>(free) / (1 << 30)));
}

DataDir::~DataDir() {
  if (lock_ >= 0) close(lock_);
}

}  // namespace engram

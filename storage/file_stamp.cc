#include "storage/file_stamp.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

int64_t Nanoseconds(const struct timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

absl::StatusOr<FileStamp> StampOf(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(errno, absl::StrCat("cannot stat ", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  return FileStamp{info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size),
                   Nanoseconds(info.st_mtim), Nanoseconds(info.st_ctim)};
}

absl::Status CheckStamp(int fd, const std::string& path, const FileStamp& stamp) {
  ASSIGN_OR_RETURN(const FileStamp now, StampOf(fd, path));
  if (now == stamp) return absl::OkStatus();
  if (now.device != stamp.device || now.inode != stamp.inode) {
    return absl::DataLossError(
        absl::StrCat(path, ": was replaced by another file after its header had been read"));
  }
  if (now.size != stamp.size) {
    return absl::DataLossError(absl::StrCat(path, ": has ", now.size, " bytes; it had ", stamp.size,
                                            " when it was opened"));
  }
  return absl::DataLossError(absl::StrCat(path, ": has changed since it was opened (its times)"));
}

}  // namespace engram

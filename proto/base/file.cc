#include "proto/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::Status SystemError(int error_number, absl::string_view what) {
  const absl::Status status = absl::ErrnoToStatus(error_number, what);
  return error_number == ELOOP ? absl::InvalidArgumentError(status.message()) : status;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  // O_NONBLOCK: a pipe is refused below, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(errno, absl::StrCat("cannot stat ", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", size, " bytes; at most ", max_bytes, " are accepted"));
  }
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = read(fd, bytes.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(errno, absl::StrCat("cannot read ", path));
    if (got == 0) return absl::DataLossError(absl::StrCat(path, " shrank while it was read"));
    done += static_cast<size_t>(got);
  }
  return bytes;
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view bytes) {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot create ", temporary));
  auto remove_temporary = absl::MakeCleanup([&] { unlink(temporary.c_str()); });
  absl::Status status;
  size_t done = 0;
  while (status.ok() && done < bytes.size()) {
    const ssize_t put = write(fd, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      status = SystemError(errno, absl::StrCat("cannot write ", temporary));
    } else {
      done += static_cast<size_t>(put);
    }
  }
  if (status.ok() && fsync(fd) != 0) {
    status = SystemError(errno, absl::StrCat("cannot sync ", temporary));
  }
  if (close(fd) != 0 && status.ok()) {
    status = SystemError(errno, absl::StrCat("cannot close ", temporary));
  }
  RETURN_IF_ERROR(status);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("cannot rename ", temporary, " to ", path));
  }
  std::move(remove_temporary).Cancel();
  return absl::OkStatus();
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("cannot open ", directory));
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  if (fsync(fd) != 0) return SystemError(errno, absl::StrCat("cannot sync ", directory));
  return absl::OkStatus();
}

}  // namespace engram

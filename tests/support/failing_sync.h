// fsync of directories that fails when a test says so: the call itself is replaced, in the whole of
// the test's program.
#ifndef ENGRAM_TESTS_SUPPORT_FAILING_SYNC_H_
#define ENGRAM_TESTS_SUPPORT_FAILING_SYNC_H_

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace engram {

// Of the next directories synced, so many are before the one that fails with EIO; below 0 none
// fails.
inline std::atomic<int> directory_syncs_before_failure{-1};

}  // namespace engram

// To be included in one file of a program.
extern "C" int fsync(int fd) {
  struct stat about = {};
  if (fstat(fd, &about) == 0 && S_ISDIR(about.st_mode) &&
      engram::directory_syncs_before_failure >= 0 &&
      engram::directory_syncs_before_failure-- == 0) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fsync, fd));
}

#endif  // ENGRAM_TESTS_SUPPORT_FAILING_SYNC_H_

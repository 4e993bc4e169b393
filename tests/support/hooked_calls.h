// System calls that change a disk, counted, and failed or made fatal when a test says so: they are
// replaced in the whole of the test's program, RocksDB's included.
#ifndef ENGRAM_TESTS_SUPPORT_HOOKED_CALLS_H_
#define ENGRAM_TESTS_SUPPORT_HOOKED_CALLS_H_

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

namespace engram {

// What becomes of calls, of threads of one name alone.
struct HookedCalls {
  // Their names begin with that literal; nullptr: none is hooked.
  std::atomic<const char*> thread{nullptr};
  // Set while none of these threads runs.
  bool kill = false;
  int error = 0;
  std::function<void(int count)> before = nullptr;  // every call, of which so many were before it
  std::function<void()> before_read = nullptr;      // reads, which are not counted

  // Of the calls that come, so many go on as ever; then the process is killed, or each has `error`.
  std::atomic<int> after{0};
  std::atomic<int> count{0};
  // That every file system says are free; below 0: what it has.
  std::atomic<int64_t> free_bytes{-1};

  bool Concerns() const {
    const char* const hooked = thread;
    if (hooked == nullptr) return false;
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof(name));
    return std::strncmp(name, hooked, std::strlen(hooked)) == 0;
  }
  // 0, or the errno that the call is to fail with.
  int Take() {
    static thread_local bool within = false;
    if (within || !Concerns()) return 0;
    const int so_far = count++;
    within = true;
    if (before) before(so_far);
    within = false;
    if (so_far < after) return 0;
    if (kill) raise(SIGKILL);
    return error;
  }
};
inline HookedCalls hooked_calls;

template <typename... Args>
long HookedCall(long number, Args... args) {
  const int error = hooked_calls.Take();
  if (error == 0) return syscall(number, args...);
  errno = error;
  return -1;
}

}  // namespace engram

// To be included in one file of a program.
extern "C" {
ssize_t write(int fd, const void* bytes, size_t size) {
  return engram::HookedCall(SYS_write, fd, bytes, size);
}
int fsync(int fd) { return static_cast<int>(engram::HookedCall(SYS_fsync, fd)); }
int fdatasync(int fd) { return static_cast<int>(engram::HookedCall(SYS_fdatasync, fd)); }
int rename(const char* from, const char* to) noexcept {
  return static_cast<int>(engram::HookedCall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int link(const char* from, const char* to) noexcept {
  return static_cast<int>(engram::HookedCall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int unlink(const char* path) noexcept {
  return static_cast<int>(engram::HookedCall(SYS_unlinkat, AT_FDCWD, path, 0));
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  return engram::HookedCall(SYS_pwrite64, fd, bytes, size, offset);
}
int statvfs(const char* path, struct statvfs* disk) noexcept {
  static const auto real =
      reinterpret_cast<int (*)(const char*, struct statvfs*)>(dlsym(RTLD_NEXT, "statvfs"));
  const int result = real(path, disk);
  const int64_t free_bytes = engram::hooked_calls.free_bytes;
  if (free_bytes >= 0) {
    disk->f_frsize = 1;
    disk->f_bavail = static_cast<fsblkcnt_t>(free_bytes);
  }
  return result;
}
ssize_t pread(int fd, void* bytes, size_t size, off_t offset) {
  if (engram::hooked_calls.before_read && engram::hooked_calls.Concerns()) {
    engram::hooked_calls.before_read();
  }
  return syscall(SYS_pread64, fd, bytes, size, offset);
}
}

#endif  // ENGRAM_TESTS_SUPPORT_HOOKED_CALLS_H_

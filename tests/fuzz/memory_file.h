// Bytes as a file, for parsers that take a path.
#ifndef ENGRAM_TESTS_FUZZ_MEMORY_FILE_H_
#define ENGRAM_TESTS_FUZZ_MEMORY_FILE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace engram {

class FuzzFile {
 public:
  FuzzFile(const void* data, size_t size) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || write(fd_, data, size) != static_cast<ssize_t>(size)) std::abort();
  }
  ~FuzzFile() { close(fd_); }
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

// What must hold for every input.
inline void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace engram

#endif  // ENGRAM_TESTS_FUZZ_MEMORY_FILE_H_

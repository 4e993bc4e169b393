// What tells whether a file is still the one that was opened, with the bytes it had.
#ifndef ENGRAM_STORAGE_FILE_STAMP_H_
#define ENGRAM_STORAGE_FILE_STAMP_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace engram {

// Identity, size and times of a regular file. A write changes size or times before it changes a
// byte; chmod, rename and link change ctime too, which is taken for a change as well.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified_ns = 0;  // since the epoch
  int64_t changed_ns = 0;   // of the inode

  bool operator==(const FileStamp&) const = default;
};

// `path` is for messages. InvalidArgument: not a regular file. The system's code where it fails.
absl::StatusOr<FileStamp> StampOf(int fd, const std::string& path);

// OK while the open file has `stamp`. DataLoss saying what changed.
absl::Status CheckStamp(int fd, const std::string& path, const FileStamp& stamp);

}  // namespace engram

#endif  // ENGRAM_STORAGE_FILE_STAMP_H_

// Small files as whole strings. A failed system call gives SystemError of its errno.
#ifndef ENGRAM_PROTO_BASE_FILE_H_
#define ENGRAM_PROTO_BASE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// absl::ErrnoToStatus, but a loop of symbolic links is InvalidArgument (there it is Unknown).
absl::Status SystemError(int error_number, absl::string_view what);

// The whole file. InvalidArgument if it is larger than `max_bytes` or not a regular file.
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes);

// Writes `bytes` beside `path`, syncs, and renames: readers see the old file or the whole new one.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view bytes);

// Makes a file's name last: what was renamed to `path`, or removed there, stays so over a crash.
absl::Status SyncDirectoryOf(const std::string& path);

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_FILE_H_

// A small file that others replace while we use it: certificates, tokens.
#ifndef ENGRAM_PROTO_BASE_WATCHED_FILE_H_
#define ENGRAM_PROTO_BASE_WATCHED_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace engram {

// Not thread-safe.
class WatchedFile {
 public:
  explicit WatchedFile(std::string path) : path_(std::move(path)) {}

  // Reads the file where it is not the one that was read last (another inode, time or size; links
  // are followed, as those of mounted Secrets change). Whether it was read. Codes as ReadFile,
  // naming the file; content() is then what it was.
  absl::StatusOr<bool> Refresh();

  const std::string& path() const { return path_; }
  const std::string& content() const { return content_; }

 private:
  struct Version {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = -1;
    bool operator==(const Version&) const = default;
  };

  std::string path_;
  std::string content_;
  Version version_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_WATCHED_FILE_H_

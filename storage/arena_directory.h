// The directory that arena files are kept in.
#ifndef ENGRAM_STORAGE_ARENA_DIRECTORY_H_
#define ENGRAM_STORAGE_ARENA_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct ArenaDirectory {
  std::string path;
  bool huge_pages = false;   // hugetlbfs; else tmpfs
  uint64_t page_bytes = 0;   // what files are made of
  uint64_t total_bytes = 0;  // of the file system
  uint64_t free_bytes = 0;

  // InvalidArgument: not a directory, or on neither tmpfs nor hugetlbfs (what a crash of the
  // machine leaves of a file on a disk may say that it is complete, and not be). The system's code
  // where it cannot be looked at.
  static absl::StatusOr<ArenaDirectory> Look(const std::string& path);

  // Paths, sorted, of the arena files in it but the one called `name`.
  std::vector<std::string> Others(absl::string_view name) const;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_ARENA_DIRECTORY_H_

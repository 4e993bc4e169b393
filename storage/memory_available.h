#ifndef ENGRAM_STORAGE_MEMORY_AVAILABLE_H_
#define ENGRAM_STORAGE_MEMORY_AVAILABLE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace engram {

// Bytes of memory this process can still take: the least of the machine's (MemAvailable) and what
// each cgroup (v2, or v1's memory controller) from ours up to the root leaves below its limit, file
// cache that can be reclaimed counted as free.
// `root` stands before /proc and /sys, for tests. NotFound when /proc/meminfo cannot be understood;
// a cgroup that cannot be read sets no limit.
absl::StatusOr<uint64_t> MemoryAvailable(const std::string& root = "");

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_AVAILABLE_H_

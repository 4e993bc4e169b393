// A mapping whose loss does not take the process with it.
#ifndef ENGRAM_STORAGE_BUS_GUARD_H_
#define ENGRAM_STORAGE_BUS_GUARD_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace engram {

// While it lives, a page of the mapping that cannot be had (the file was cut short, the disk
// fails), which raises SIGBUS, is replaced by one of zeros, and the mapping counts as lost. The
// process's handler is installed by the first guard; signals for other addresses go to whatever
// handler there was before. Safe for any number of threads. Must go before the mapping does.
class BusGuard {
 public:
  // Of the mapping [data, data + bytes). `page_bytes`: of its pages, where those are not the
  // system's (hugetlbfs). ResourceExhausted: more than kMaxBusGuards.
  static absl::StatusOr<std::unique_ptr<BusGuard>> Create(const void* data, uint64_t bytes,
                                                          uint64_t page_bytes = 0);
  ~BusGuard();
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;

  // Whoever has read a page of zeros in a lost one's place, sees true afterwards.
  bool lost() const;

 private:
  explicit BusGuard(int region) : region_(region) {}

  const int region_;  // index into the handler's list
};

inline constexpr int kMaxBusGuards = 4096;

}  // namespace engram

#endif  // ENGRAM_STORAGE_BUS_GUARD_H_

// Blocks of rows, worked through by several threads, with progress.
#ifndef ENGRAM_STORAGE_PARALLEL_H_
#define ENGRAM_STORAGE_PARALLEL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace engram {

// How far a load has come, for whoever looks at it meanwhile. Bytes of all that is read, as far as
// it is known by now.
struct LoadProgress {
  std::atomic<uint64_t> total_bytes{0};
  std::atomic<uint64_t> done_bytes{0};
};

struct ParallelOptions {
  uint32_t threads = 0;                        // 0: one per core
  std::string what;                            // "loading", for progress and messages
  std::function<void(absl::string_view)> log;  // from one thread at a time; may be null
  LoadProgress* progress = nullptr;            // also told of it; may be null
  absl::Duration log_every = absl::Seconds(5);
};

// Calls work(i) for every i below `count`, each once, from several threads; work returns the bytes
// it has done by adding them to `bytes`. Stops early at the first failure, which is returned.
// Progress (per cent, GB/s, time left, of `total_bytes`) goes to the log every so often.
absl::Status ForEachInParallel(
    uint64_t count, uint64_t total_bytes, const ParallelOptions& options,
    const std::function<absl::Status(uint64_t i, uint64_t& bytes)>& work);

}  // namespace engram

#endif  // ENGRAM_STORAGE_PARALLEL_H_

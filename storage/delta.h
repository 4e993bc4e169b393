// From two checkpoints to the delta between them.
#ifndef ENGRAM_STORAGE_DELTA_H_
#define ENGRAM_STORAGE_DELTA_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/delta_file.h"

namespace engram {

struct DeltaOptions {
  std::string from;                            // directory of the base
  std::string to;                              // of the target
  std::string out;                             // the delta's file
  uint32_t threads = 0;                        // readers; 0: one per core
  std::function<void(absl::string_view)> log;  // progress; may be null
};

// Writes the rows that differ. Blocks whose sums are equal in both sidecars are not read; a
// checkpoint without one is read once for its sums. InvalidArgument: the two differ in geometry,
// token map or row layout, which only a new load changes (what differs is named). DataLoss: rows
// are not those of their sidecar's sums, or a file changes meanwhile. Else as Checkpoint::Open,
// TableReader and DeltaWriter.
absl::StatusOr<DeltaHeader> WriteDelta(const DeltaOptions& options);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DELTA_H_

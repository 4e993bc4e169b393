// From a checkpoint's files into memory.
#ifndef ENGRAM_STORAGE_MEMORY_LOADER_H_
#define ENGRAM_STORAGE_MEMORY_LOADER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/checkpoint.h"
#include "storage/memory_store.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"

namespace engram {

// Reads the ranges' rows, with their checksums, and holds every block they touch against the
// sidecar's sums, whatever the files' times say (a block that a range cuts is read whole).
// DataLoss: rows differ, or a file ended early or changed meanwhile. ResourceExhausted as
// MemoryStore::Create.
absl::StatusOr<std::unique_ptr<MemoryStore>> LoadIntoMemory(const Checkpoint& checkpoint,
                                                            std::vector<RowRange> ranges,
                                                            const Sidecar& sidecar,
                                                            const ParallelOptions& parallel);

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_LOADER_H_

// From a checkpoint's files into memory.
#ifndef ENGRAM_STORAGE_MEMORY_LOADER_H_
#define ENGRAM_STORAGE_MEMORY_LOADER_H_

#include "absl/status/status.h"
#include "storage/checkpoint.h"
#include "storage/memory_store.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"

namespace engram {

// Fills an empty store of the checkpoint's rows, with their checksums, and holds every block that
// its ranges touch against the sidecar's sums, whatever the files' times say (a block that a range
// cuts is read whole). DataLoss: rows differ, or a file ended early or changed meanwhile.
absl::Status LoadIntoMemory(const Checkpoint& checkpoint, const Sidecar& sidecar,
                            const ParallelOptions& parallel, const MemoryStore& store);

}  // namespace engram

#endif  // ENGRAM_STORAGE_MEMORY_LOADER_H_

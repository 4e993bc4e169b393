// Rows brought near before anybody asks for them.
#ifndef ENGRAM_STORAGE_WARM_UP_H_
#define ENGRAM_STORAGE_WARM_UP_H_

#include "absl/status/status.h"
#include "storage/parallel.h"
#include "storage/row_store.h"

namespace engram {

// Gathers every row once, in the order of the files: a mapped store's first lookups then find the
// page cache full. Codes as RowStore::Gather.
absl::Status WarmUp(const RowStore& store, const ParallelOptions& parallel);

}  // namespace engram

#endif  // ENGRAM_STORAGE_WARM_UP_H_

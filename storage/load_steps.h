// What every way of loading a shard begins with.
#ifndef ENGRAM_STORAGE_LOAD_STEPS_H_
#define ENGRAM_STORAGE_LOAD_STEPS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/table.h"

namespace engram {

// The checkpoint's sidecar, held against it; where there is none and `options` name none, the
// tables are read for one and `computed` is set. Of the options `sidecar`, `threads` and `log`
// count. DataLoss: it is not of this checkpoint. Else as ReadSidecar and ComputeSidecar.
absl::StatusOr<Sidecar> GetSidecar(const Checkpoint& checkpoint, const LoadOptions& options,
                                   bool& computed);

// Of the shard that the options name. As ShardMap::Ranges.
absl::StatusOr<std::vector<RowRange>> RangesOf(const LoadOptions& options,
                                               const Geometry& geometry);

// FailedPrecondition: the options expect another table than this one, which is in `where`.
absl::Status CheckDigest(const LoadOptions& options, const Sha256& digest, absl::string_view where);

}  // namespace engram

#endif  // ENGRAM_STORAGE_LOAD_STEPS_H_

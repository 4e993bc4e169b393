#ifndef ENGRAM_STORAGE_DELTA_MERGE_H_
#define ENGRAM_STORAGE_DELTA_MERGE_H_

#include <string>

#include "absl/status/status.h"

namespace engram {

// Writes the one delta that does what `first` and then `second`, which is on the first's target,
// do; rows that are again what they were are left out. Both are whole, or parts for the same
// ranges. InvalidArgument: the second is on another table. Else as DeltaReader and DeltaWriter.
absl::Status MergeDeltas(const std::string& first, const std::string& second,
                         const std::string& out);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DELTA_MERGE_H_

// The I/O thread's first stage: a layer's row ids, and the rows that a prefetch has already.
#ifndef ENGRAM_CLIENT_STEP_ROWS_H_
#define ENGRAM_CLIENT_STEP_ROWS_H_

#include <memory>

#include "absl/status/status.h"
#include "client/lookup.h"
#include "proto/geometry.h"
#include "proto/row_ids.h"

namespace engram {

// True: a prefetch that the layer takes from has not come to its end; the lookup's owner will be
// asked to resume the layer.
bool WaitForAhead(const std::shared_ptr<Lookup>& lookup, LookupLayer& layer);

// What tokens [first, first + tokens) of a prefetch hash: of one branch alone.
TokenRun RunOfAhead(const Lookup& ahead, size_t first, size_t tokens, const RowHasher& hasher);

// Fills layer.ids, as given, converted or hashed, and layer.copies. Chunks of a prefetch that has
// failed are hashed like others. `hasher` may be null where there are no chunks. OutOfRange: see
// ConvertIds; the layer is named.
absl::Status FillIds(const Lookup& lookup, const LayerGeometry& geometry, const RowHasher* hasher,
                     LookupLayer& layer);

// The rows of positions that ask for none, according to the layer's plan, become zeros. Returns how
// many.
size_t ZeroMissing(const Lookup& lookup, const LookupLayer& layer);

// The rows of layer.copies go to their places.
void CopyAhead(const Lookup& lookup, const LookupLayer& layer);

// Finishes a lookup that nobody else knows yet, where it takes all of its rows from prefetches that
// have them, and they are few. False: it is as before.
bool FinishAtOnce(Lookup& lookup);

}  // namespace engram

#endif  // ENGRAM_CLIENT_STEP_ROWS_H_

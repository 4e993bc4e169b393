// Fills the caches of a client with the n-grams that text asks for most.
#ifndef ENGRAM_CLIENT_CACHE_FILLER_H_
#define ENGRAM_CLIENT_CACHE_FILLER_H_

#include "absl/status/status.h"

namespace engram {

class ClientCore;

// Of a connected client that has had no lookup yet, whose options name a file of hot n-grams:
// counts them as asked for as often as the file says, and fetches as many as the caches hold.
// Returns when they are there. What cannot be fetched is left out, and said to the log. As
// ReadHotNgrams; FailedPrecondition: no token map, or the file is of another one. InvalidArgument:
// an id beyond the compressed vocabulary.
absl::Status FillCaches(ClientCore& core);

}  // namespace engram

#endif  // ENGRAM_CLIENT_CACHE_FILLER_H_

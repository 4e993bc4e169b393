// Copies into memory that this core will not read soon.
#ifndef ENGRAM_CLIENT_STREAM_COPY_H_
#define ENGRAM_CLIENT_STREAM_COPY_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

// memcpy whose whole lines go to memory past the caches: a line that is overwritten need not be
// read first, and what was cached stays. Twice as fast as memcpy into a buffer that no cache holds,
// slower into one that a cache holds. `isa` must be one of SupportedIsas(). Pure.
void StreamCopy(uint8_t* to, const uint8_t* from, size_t bytes, Isa isa = BestIsa());

// After StreamCopy, before another thread is told that the bytes are there: a release store alone
// does not wait for them.
void StreamFence();

}  // namespace engram

#endif  // ENGRAM_CLIENT_STREAM_COPY_H_

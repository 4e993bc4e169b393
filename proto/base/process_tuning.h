// Settings of a whole process: for our own mains, never for a library inside somebody's process.
#ifndef ENGRAM_PROTO_BASE_PROCESS_TUNING_H_
#define ENGRAM_PROTO_BASE_PROCESS_TUNING_H_

namespace engram {

// Call it first in main. Two things:
// - malloc keeps large blocks. gRPC takes and drops buffers of megabytes; mapping and unmapping
//   them each time costs 25-40 % of the rows a second from 4,096 rows a request on.
// - Abseil's mutexes look for no deadlocks. Debian builds Abseil without NDEBUG, so that every lock
//   gRPC takes is entered into a graph of locks.
void TuneProcess();

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_PROCESS_TUNING_H_

// Publish, Activate and Retire: what changes the generations that a server holds.
#ifndef ENGRAM_SERVICE_CHANGE_CALLS_H_
#define ENGRAM_SERVICE_CHANGE_CALLS_H_

#include "service/call.h"

namespace engram {

// Start waiting for calls of each on the queue; every call that comes starts the next wait.
void ListenForChanges(CallContext& context);

}  // namespace engram

#endif  // ENGRAM_SERVICE_CHANGE_CALLS_H_

// Describe and Gather: one request, one response.
#ifndef ENGRAM_SERVICE_UNARY_CALLS_H_
#define ENGRAM_SERVICE_UNARY_CALLS_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engram/v1/engram.pb.h"
#include "service/call.h"

namespace engram {

// Start waiting for calls of a method on the queue; every call that comes starts the next wait.
void ListenForDescribe(CallContext& context);
void ListenForGather(CallContext& context);

// Rows that a unary Gather may ask for: so many fit into the 4 MB that gRPC clients receive.
uint64_t MaxUnaryRows(const RowLayout& layout);

// Counts a unary Gather among the requests for rows, when it is over.
void CountUnaryGather(CallContext& context, const v1::GatherRequest& request,
                      const v1::GatherResponse& response, const absl::Status& status,
                      absl::Duration took);

}  // namespace engram

#endif  // ENGRAM_SERVICE_UNARY_CALLS_H_

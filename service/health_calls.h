// grpc.health.v1, served from our own completion queue: gRPC's own health service is of the
// callback kind, and two kinds of service in one process take each other's events (gRPC 1.51 has
// one epoll set per process).
#ifndef ENGRAM_SERVICE_HEALTH_CALLS_H_
#define ENGRAM_SERVICE_HEALTH_CALLS_H_

#include "service/call.h"

namespace engram {

// SERVING until the server drains, then NOT_SERVING, for the services "" and
// "engram.v1.EngramService"; others are NOT_FOUND (Check) or SERVICE_UNKNOWN (Watch).
void ListenForHealthCheck(CallContext& context);
void ListenForHealthWatch(CallContext& context);

}  // namespace engram

#endif  // ENGRAM_SERVICE_HEALTH_CALLS_H_

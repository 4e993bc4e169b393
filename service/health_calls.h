// grpc.health.v1, served from our own completion queue: gRPC's own health service is of the
// callback kind, and two kinds of service in one process take each other's events (gRPC 1.51 has
// one epoll set per process).
#ifndef ENGRAM_SERVICE_HEALTH_CALLS_H_
#define ENGRAM_SERVICE_HEALTH_CALLS_H_

#include <functional>
#include <memory>

#include "service/call.h"

namespace engram {

// What health calls see of the queue that they are on. All of it outlives the queue's last event.
struct HealthContext {
  AsyncHealthService& health;
  grpc::ServerCompletionQueue* queue;
  std::unordered_set<LongCall*>& long_calls;
  size_t& calls;                 // as CallContext's
  std::function<bool()> ready;   // lookups are served
  std::function<bool()> ending;  // calls end, and no more are taken
};

// "" and "engram.v1.EngramService": SERVING while lookups are served. "liveness": SERVING as long
// as there is an answer. Others are NOT_FOUND (Check) or SERVICE_UNKNOWN (Watch).
void ListenForHealth(std::shared_ptr<const HealthContext> context);
// On a serving thread's queue: not ready while the server drains, nor when its store has failed.
void ListenForHealth(CallContext& context);

}  // namespace engram

#endif  // ENGRAM_SERVICE_HEALTH_CALLS_H_

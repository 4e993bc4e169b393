// A port for health checks alone, from a process's start: kubelet's probes speak no TLS, and a
// server that loads has no other port yet.
#ifndef ENGRAM_SERVICE_HEALTH_PORT_H_
#define ENGRAM_SERVICE_HEALTH_PORT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace engram {

// A grpc::Server of its own, since services are shared over all ports of one, with a thread
// "engram-health". Names of services: health_calls.h.
class HealthPort {
 public:
  // Not ready until it is told so. `address`: "host:port" (port 0 picks one) or "unix:PATH".
  // Unavailable naming it: it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HealthPort>> Start(const std::string& address);
  ~HealthPort();  // ends what calls there are

  const std::string& address() const;  // with the port that was picked

  // Whether lookups are served. Any thread; watches hear of it.
  void SetReady(bool ready);

 private:
  class Impl;
  explicit HealthPort(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_HEALTH_PORT_H_

// A client's metrics at a port of their own.
#ifndef ENGRAM_CLIENT_METRICS_EXPORTER_H_
#define ENGRAM_CLIENT_METRICS_EXPORTER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "proto/base/metrics_server.h"

namespace engram {

// Serves /metrics until it is destroyed, before the client is. Codes as MetricsServer::Start.
absl::StatusOr<std::unique_ptr<MetricsServer>> ServeMetrics(const Client& client,
                                                            const std::string& address);

}  // namespace engram

#endif  // ENGRAM_CLIENT_METRICS_EXPORTER_H_

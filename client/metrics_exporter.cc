#include "client/metrics_exporter.h"

#include "client/metrics.h"

namespace engram {

absl::StatusOr<std::unique_ptr<MetricsServer>> ServeMetrics(const Client& client,
                                                            const std::string& address) {
  return MetricsServer::Start(address, [&client] { return ClientMetrics(client); });
}

}  // namespace engram

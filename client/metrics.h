// What a client counts, as metrics. Names: deploy/metrics.md.
#ifndef ENGRAM_CLIENT_METRICS_H_
#define ENGRAM_CLIENT_METRICS_H_

#include <vector>

#include "client/client.h"
#include "proto/base/metric.h"

namespace engram {

// Any thread, while the client lives. All series are there from the first call on.
std::vector<MetricFamily> ClientMetrics(const Client& client);

}  // namespace engram

#endif  // ENGRAM_CLIENT_METRICS_H_

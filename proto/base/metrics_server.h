// A port on which metrics are read, in Prometheus' text format at /metrics. The home of
// prometheus-cpp.
#ifndef ENGRAM_PROTO_BASE_METRICS_SERVER_H_
#define ENGRAM_PROTO_BASE_METRICS_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/metric.h"

namespace engram {

// Plaintext, with threads of its own: a few, so that a scraper that does not read holds up neither
// what is measured nor, until it is cut off, the next scraper.
class MetricsServer {
 public:
  // `collect` is called for every scrape, by any thread, also by several at once; not any more when
  // this has been destroyed. `address`: "host:port", host an IP address or a name, port 0 picks
  // one. InvalidArgument: it is not one. Unavailable: it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, std::function<std::vector<MetricFamily>()> collect);
  ~MetricsServer();

  const std::string& address() const;  // with the port that was picked

 private:
  class Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_METRICS_SERVER_H_

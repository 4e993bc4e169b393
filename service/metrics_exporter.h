// What a server says of itself at its metrics port. Names: deploy/metrics.md.
#ifndef ENGRAM_SERVICE_METRICS_EXPORTER_H_
#define ENGRAM_SERVICE_METRICS_EXPORTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/base/metric.h"
#include "proto/base/metrics_server.h"
#include "proto/base/mutex.h"
#include "service/server.h"
#include "service/startup.h"
#include "storage/generations.h"
#include "storage/table.h"

namespace engram {

// Exports from its start, while a table still loads; all series are there from then on. Any thread.
class MetricsExporter {
 public:
  struct Options {
    std::string address;  // as of MetricsServer
    std::string shard;    // as it was asked for; the table's once that is there
    std::string store;
    const Startup* startup = nullptr;  // outlives this object
  };

  // Codes as MetricsServer::Start.
  static absl::StatusOr<std::unique_ptr<MetricsExporter>> Start(Options options);

  const std::string& address() const { return server_->address(); }

  // The table is loaded and served. All three outlive this object.
  void SetServing(const Table* table, const Generations* generations, const Server* server);

  std::vector<MetricFamily> Collect() const;

 private:
  explicit MetricsExporter(Options options) : options_(std::move(options)) {}
  void AddTable(MetricList& metrics) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  const Table* table_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null: it loads
  const Generations* generations_ ABSL_GUARDED_BY(mutex_) = nullptr;
  const Server* serving_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::unique_ptr<MetricsServer> server_;  // last: its threads collect
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_METRICS_EXPORTER_H_

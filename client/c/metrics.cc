// What a client counts, as Prometheus' samples.
#include "client/metrics.h"

#include <limits>
#include <vector>

#include "client/c/handles.h"
#include "client/c/status.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

int32_t KindOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return ENGRAM_METRIC_COUNTER;
    case MetricType::kGauge:
      return ENGRAM_METRIC_GAUGE;
    case MetricType::kHistogram:
      return ENGRAM_METRIC_HISTOGRAM;
  }
  return ENGRAM_METRIC_GAUGE;
}

void Visit(const MetricFamily& family, const MetricSample& sample, engram_metric_fn visit,
           void* user) {
  std::vector<engram_label> labels;
  for (const auto& [name, value] : sample.labels) labels.push_back({name.c_str(), value.c_str()});
  std::vector<engram_metric_bucket> buckets;
  uint64_t count = 0;
  for (size_t i = 0; i < sample.buckets.size(); ++i) {
    count += sample.buckets[i];
    const bool bounded = i < sample.bounds.size();
    buckets.push_back(
        {bounded ? sample.bounds[i] : std::numeric_limits<double>::infinity(), count});
  }
  const bool histogram = family.type == MetricType::kHistogram;
  const engram_metric metric{sizeof(engram_metric),
                             family.name.c_str(),
                             family.help.c_str(),
                             KindOf(family.type),
                             0,
                             labels.empty() ? nullptr : labels.data(),
                             labels.size(),
                             histogram ? static_cast<double>(count) : sample.value,
                             histogram ? buckets.data() : nullptr,
                             buckets.size(),
                             sample.sum};
  visit(user, &metric);
}

}  // namespace
}  // namespace engram

engram_status* engram_client_visit_metrics(const engram_client* client, engram_metric_fn visit,
                                           void* user) {
  return engram::Call([&]() -> absl::Status {
    RETURN_IF_ERROR(engram::CheckNotNull(client, "client"));
    RETURN_IF_ERROR(engram::CheckNotNull(reinterpret_cast<const void*>(visit), "visit"));
    for (const engram::MetricFamily& family : engram::ClientMetrics(*client->client)) {
      for (const engram::MetricSample& sample : family.samples) {
        engram::Visit(family, sample, visit, user);
      }
    }
    return absl::OkStatus();
  });
}

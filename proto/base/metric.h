// Metrics as values, for whoever exports them: no metrics library in whoever has them.
#ifndef ENGRAM_PROTO_BASE_METRIC_H_
#define ENGRAM_PROTO_BASE_METRIC_H_

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/base/counters.h"

namespace engram {

enum class MetricType { kCounter, kGauge, kHistogram };

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// One series, or the series of one histogram.
struct MetricSample {
  MetricLabels labels;
  double value = 0;               // of a counter or gauge
  std::vector<double> bounds;     // of a histogram's buckets, but the one without
  std::vector<uint64_t> buckets;  // bounds.size() + 1, not cumulative
  double sum = 0;
};

struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kGauge;
  std::vector<MetricSample> samples;
};

// A list of families under way. Samples of a family come one behind the other.
class MetricList {
 public:
  void Add(MetricType type, absl::string_view name, absl::string_view help, double value,
           MetricLabels labels = {}) {
    Family(type, name, help).samples.push_back({std::move(labels), value, {}, {}, 0});
  }
  void Counter(absl::string_view name, absl::string_view help, uint64_t value,
               MetricLabels labels = {}) {
    Add(MetricType::kCounter, name, help, static_cast<double>(value), std::move(labels));
  }
  void Gauge(absl::string_view name, absl::string_view help, double value,
             MetricLabels labels = {}) {
    Add(MetricType::kGauge, name, help, value, std::move(labels));
  }
  void Gauge(absl::string_view name, absl::string_view help, uint64_t value,
             MetricLabels labels = {}) {
    Gauge(name, help, static_cast<double>(value), std::move(labels));
  }
  // `bounds` as the histogram has them, `per_unit` of them to the exported unit. Counts of nothing
  // yet may be empty.
  void Histogram(absl::string_view name, absl::string_view help, const HistogramCounts& counts,
                 std::span<const uint64_t> bounds, double per_unit, MetricLabels labels = {}) {
    MetricSample sample{std::move(labels), 0, {}, counts.buckets, 0};
    for (const uint64_t bound : bounds) {
      sample.bounds.push_back(static_cast<double>(bound) / per_unit);
    }
    sample.buckets.resize(bounds.size() + 1);
    sample.sum = static_cast<double>(counts.sum) / per_unit;
    Family(MetricType::kHistogram, name, help).samples.push_back(std::move(sample));
  }
  void Latency(absl::string_view name, absl::string_view help, const HistogramCounts& counts,
               MetricLabels labels = {}) {
    Histogram(name, help, counts, kLatencyBounds, 1e9, std::move(labels));
  }

  std::vector<MetricFamily> Take() && { return std::move(families_); }

 private:
  MetricFamily& Family(MetricType type, absl::string_view name, absl::string_view help) {
    if (families_.empty() || families_.back().name != name) {
      families_.push_back({std::string(name), std::string(help), type, {}});
    }
    return families_.back();
  }

  std::vector<MetricFamily> families_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_METRIC_H_

#include "proto/base/metrics_server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Scrapers that may hang at one time, one by one cut off after so long.
constexpr absl::string_view kThreads = "8";
constexpr absl::string_view kTimeoutMs = "10000";

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

prometheus::ClientMetric Convert(MetricSample&& sample) {
  prometheus::ClientMetric metric;
  for (auto& [name, value] : sample.labels) metric.label.push_back({name, std::move(value)});
  metric.counter.value = sample.value;
  metric.gauge.value = sample.value;
  prometheus::ClientMetric::Histogram& histogram = metric.histogram;
  for (size_t i = 0; i < sample.buckets.size(); ++i) {
    histogram.sample_count += sample.buckets[i];
    if (i == sample.bounds.size()) break;  // The serializer adds the bucket without a bound.
    histogram.bucket.push_back({histogram.sample_count, sample.bounds[i]});
  }
  histogram.sample_sum = sample.sum;
  return metric;
}

class Collector final : public prometheus::Collectable {
 public:
  explicit Collector(std::function<std::vector<MetricFamily>()> collect)
      : collect_(std::move(collect)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    for (MetricFamily& family : collect_()) {
      prometheus::MetricFamily& converted = families.emplace_back();
      converted.name = std::move(family.name);
      converted.help = std::move(family.help);
      converted.type = TypeOf(family.type);
      for (MetricSample& sample : family.samples) {
        converted.metric.push_back(Convert(std::move(sample)));
      }
    }
    return families;
  }

 private:
  const std::function<std::vector<MetricFamily>()> collect_;
};

// The host as the HTTP server takes it: an IP address, in brackets where it has colons.
absl::StatusOr<std::string> ResolveHost(const std::string& host, const std::string& address) {
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, ": ", host, ": ", gai_strerror(error)));
  }
  const absl::Cleanup free = [&] { freeaddrinfo(found); };
  char text[NI_MAXHOST];
  getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST);
  return found->ai_family == AF_INET6 ? absl::StrCat("[", text, "]") : std::string(text);
}

}  // namespace

class MetricsServer::Impl {
 public:
  std::string address;
  std::shared_ptr<prometheus::Collectable> collector;
  // Last: its threads collect. Nothing is collected any more when it has been destroyed.
  std::unique_ptr<prometheus::Exposer> exposer;
};

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsServer::~MetricsServer() = default;

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::function<std::vector<MetricFamily>()> collect) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics address `", address, "` is not host:port"));
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  ASSIGN_OR_RETURN(const std::string ip, ResolveHost(host, address));
  auto impl = std::make_unique<Impl>();
  impl->collector = std::make_shared<Collector>(std::move(collect));
  try {
    impl->exposer = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", absl::StrCat(ip, ":", port), "num_threads", std::string(kThreads),
        "request_timeout_ms", std::string(kTimeoutMs)});
    impl->exposer->RegisterCollectable(impl->collector);
    port = static_cast<uint32_t>(impl->exposer->GetListeningPorts().at(0));
  } catch (const std::exception&) {  // It knows no more.
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", address, ": the address is in use, not this host's, or malformed"));
  }
  impl->address = absl::StrCat(address.substr(0, colon), ":", port);
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
}

const std::string& MetricsServer::address() const { return impl_->address; }

}  // namespace engram

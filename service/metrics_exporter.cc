#include "service/metrics_exporter.h"

#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/base/status_macros.h"
#include "proto/version.h"
#include "service/process_metrics.h"

namespace engram {
namespace {

// What comes after kStartupStates.
constexpr const char* kLateStates[] = {"draining", "failed"};

void AddRequests(MetricList& metrics, const ServerCounts& counts, uint64_t row_bytes) {
  for (const bool prefill : {false, true}) {
    metrics.Counter("engram_requests_total", "Requests for rows, taken or refused.",
                    counts.requests[prefill], {{"priority", prefill ? "prefill" : "decode"}});
  }
  for (size_t i = 0; i < kErrorReasons.size(); ++i) {
    metrics.Counter("engram_request_errors_total", "Requests answered by an error.",
                    counts.errors[i], {{"reason", kErrorReasons[i]}});
  }
  metrics.Latency("engram_request_duration_seconds",
                  "From a request's last byte to its answer's last byte handed to the transport.",
                  counts.duration);
  const std::pair<const char*, const HistogramCounts*> stages[] = {
      {"queue", &counts.queue}, {"gather", &counts.gather}, {"send", &counts.send}};
  for (const auto& [stage, histogram] : stages) {
    metrics.Latency("engram_request_stage_seconds", "The parts of a request's duration.",
                    *histogram, {{"stage", stage}});
  }
  metrics.Histogram("engram_request_rows", "Rows of a request.", counts.rows, kRowBounds, 1);
  metrics.Counter("engram_sent_rows_total", "Rows in answers.", counts.sent_rows);
  metrics.Counter("engram_sent_row_bytes_total", "Bytes of rows in answers.",
                  counts.sent_row_bytes);
  metrics.Counter("engram_lost_rows_total", "Rows that answers named as unreadable.",
                  counts.lost_rows);
  metrics.Gauge("engram_requests_in_flight", "Requests taken and not answered.", counts.in_flight);
  metrics.Gauge("engram_in_flight_bytes", "Bytes of rows that those are still to get.",
                counts.in_flight_rows * row_bytes);
  metrics.Gauge("engram_streams", "Open streams.", counts.streams);
}

// In the words of gRPC's own metrics.
void AddUnaryCalls(MetricList& metrics, const ServerCounts& counts) {
  const auto method = [](size_t i) {
    return absl::StrCat("engram.v1.EngramService/", kUnaryMethods[i]);
  };
  for (size_t i = 0; i < kUnaryMethods.size(); ++i) {
    metrics.Counter("grpc_server_call_started_total", "Unary calls that came.",
                    counts.unary[i].started, {{"grpc_method", method(i)}});
  }
  for (size_t i = 0; i < kUnaryMethods.size(); ++i) {
    for (size_t code = 0; code < kCallCodes.size(); ++code) {
      metrics.Histogram("grpc_server_call_duration_seconds",
                        "Unary calls, from their request to their answer.",
                        counts.unary[i].durations[code], kCallBounds, 1e9,
                        {{"grpc_method", method(i)},
                         {"grpc_status", absl::StatusCodeToString(kCallCodes[code])}});
    }
  }
}

void AddSecurity(MetricList& metrics, const SecurityCounts& security) {
  metrics.Gauge("engram_certificate_expiry_seconds",
                "Unix time at which the certificate in use ends; 0 without TLS.",
                static_cast<double>(security.certificate_expiry_s));
  metrics.Counter("engram_certificate_reloads_total", "Reloads of certificates.",
                  security.reloads_ok, {{"result", "ok"}});
  metrics.Counter("engram_certificate_reloads_total", "", security.reloads_failed,
                  {{"result", "failed"}});
  metrics.Counter("engram_denied_calls_total", "Calls refused for who made them.",
                  security.denied_calls);
}

// Rows of generations held here beside the table's own.
uint64_t RowsChangedIn(const GenerationSet& set) {
  uint64_t rows = 0;
  for (const auto& held : set.held()) rows += held->changed_rows;
  return rows;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsExporter>> MetricsExporter::Start(Options options) {
  std::unique_ptr<MetricsExporter> exporter(new MetricsExporter(std::move(options)));
  ASSIGN_OR_RETURN(exporter->server_,
                   MetricsServer::Start(exporter->options_.address, [exporter = exporter.get()] {
                     return exporter->Collect();
                   }));
  return exporter;
}

void MetricsExporter::SetServing(const Table* table, const Generations* generations,
                                 const Server* server) {
  MutexLock lock(&mutex_);
  table_ = table;
  generations_ = generations;
  serving_ = server;
}

void MetricsExporter::AddTable(MetricList& metrics) const {
  const bool loaded = table_ != nullptr;
  const StoreState* const store = loaded ? &table_->rows->state() : nullptr;
  const auto held = loaded ? generations_->current() : nullptr;
  const Startup& startup = *options_.startup;
  const std::string state = !loaded           ? kStartupStates[static_cast<size_t>(startup.state())]
                            : store->failed() ? "failed"
                            : serving_->draining() ? "draining"
                                                   : "serving";
  metrics.Gauge("engram_build_info", "Always 1.", uint64_t{1}, {{"version", kVersion}});
  metrics.Gauge("engram_table_info", "1; 0 until the table is loaded.", uint64_t{loaded},
                {{"model", loaded ? table_->model : ""},
                 {"digest", loaded ? ToHex(held->active().digest) : ""},
                 {"shard", loaded ? table_->shard.ToString() : options_.shard},
                 {"store", options_.store}});
  for (const auto& names :
       {std::span<const char* const>(kStartupStates), std::span<const char* const>(kLateStates)}) {
    for (const char* const name : names) {
      metrics.Gauge("engram_state", "1 for the state it is in.", uint64_t{state == name},
                    {{"state", name}});
    }
  }
  metrics.Gauge("engram_ready", "1 while lookups are served.", uint64_t{state == "serving"});
  metrics.Gauge("engram_load_progress_ratio", "Of the bytes that are read until it serves, 0 to 1.",
                startup.ratio());
  metrics.Gauge("engram_load_remaining_seconds",
                "Until the state is over, as it goes now; NaN where that is not known yet.",
                startup.remaining_seconds());
  metrics.Gauge("engram_load_seconds", "From the start until it serves, or until now.",
                absl::ToDoubleSeconds(startup.took()));
  metrics.Gauge("engram_table_bytes", "Rows that are served.",
                loaded ? table_->rows->bytes() : uint64_t{0});
  metrics.Gauge("engram_generations", "Generations held.",
                held == nullptr ? uint64_t{0} : uint64_t{held->held().size()});
  metrics.Gauge("engram_changed_rows", "Rows that generations held here change.",
                held == nullptr ? uint64_t{0} : RowsChangedIn(*held));
  metrics.Gauge("engram_verified_rows", "Rows of the verification under way.",
                loaded ? store->verified_rows.load() : uint64_t{0});
  metrics.Counter("engram_verification_passes_total", "Verifications of all rows.",
                  loaded ? store->verified_passes.load() : uint64_t{0});
  metrics.Counter("engram_checksum_failures_total", "Rows that differed from their checksums.",
                  loaded ? store->checksum_failures.load() : uint64_t{0});
}

std::vector<MetricFamily> MetricsExporter::Collect() const {
  MetricList metrics;
  {
    MutexLock lock(&mutex_);
    AddTable(metrics);
    const ServerCounts counts = serving_ == nullptr ? ServerCounts() : serving_->counts();
    AddRequests(metrics, counts, table_ == nullptr ? 0 : table_->rows->layout().row_bytes());
    AddUnaryCalls(metrics, counts);
    AddSecurity(metrics, serving_ == nullptr ? SecurityCounts() : serving_->security_counts());
    if (table_ != nullptr) {
      table_->rows->Visit([&](const RowStore::Measure& measure) {
        metrics.Add(measure.counter ? MetricType::kCounter : MetricType::kGauge,
                    absl::StrCat("engram_", measure.name), measure.help,
                    static_cast<double>(measure.value));
      });
    }
  }
  AddProcessMetrics(metrics);
  return std::move(metrics).Take();
}

}  // namespace engram

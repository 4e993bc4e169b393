#include "tests/bench/gather.h"

#include <algorithm>

#include "client/client.h"
#include "client/metrics_exporter.h"
#include "proto/base/status_macros.h"
#include "tests/bench/ask_client.h"
#include "tests/bench/batch_run.h"
#include "tests/bench/process_cpu.h"
#include "tests/bench/row_source.h"

namespace engram::bench {
namespace {

struct CpuUse {
  double client_s = 0;
  std::optional<double> servers_s;
};

CpuUse MeasureCpu(const std::optional<std::vector<pid_t>>& pids) {
  return {OwnCpuSeconds(), pids.has_value() ? CpuSeconds(*pids) : std::nullopt};
}

nlohmann::json Report(const GatherOptions& options, uint32_t row_bytes, const BatchRun& run,
                      const CpuUse& before, const CpuUse& after) {
  const double gb = static_cast<double>(run.batches() * options.batch) * row_bytes * 1e-9;
  nlohmann::json report = {{"rows_per_s", run.rows_per_s()},
                           {"gb_per_s", run.rows_per_s() * row_bytes * 1e-9},
                           {"p50_us", run.percentile_us(0.50)},
                           {"p99_us", run.percentile_us(0.99)},
                           {"server_cpu_s_per_gb", nullptr},
                           {"client_cpu_s_per_gb", (after.client_s - before.client_s) / gb},
                           {"lookups", run.batches()},
                           {"batch", options.batch},
                           {"depth", options.depth},
                           {"seconds", run.seconds()},
                           {"ids", options.ids},
                           {"io_threads", options.io_threads},
                           {"dedup", options.dedup},
                           {"cache_mb", options.cache_mb},
                           {"verify_share", options.verify_share},
                           {"spin_us", absl::ToInt64Microseconds(options.spin)}};
  if (before.servers_s.has_value() && after.servers_s.has_value()) {
    report["server_cpu_s_per_gb"] = (*after.servers_s - *before.servers_s) / gb;
  }
  return report;
}

}  // namespace

absl::Status GatherOptions::Validate() const {
  if (servers.empty()) return absl::InvalidArgumentError("--servers names no server");
  if (batch == 0 || batch > (1u << 20)) {
    return absl::InvalidArgumentError("--batch is not between 1 and 1048576");
  }
  if (depth == 0 || depth > 1024) {
    return absl::InvalidArgumentError("--depth is not between 1 and 1024");
  }
  if (time <= absl::ZeroDuration() || time > absl::Hours(24)) {
    return absl::InvalidArgumentError("--seconds is not above 0 and at most 86400");
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> RunGather(const GatherOptions& options) {
  RETURN_IF_ERROR(options.Validate());
  ClientOptions client_options;
  client_options.servers = options.servers;
  client_options.credentials = options.credentials;
  client_options.spin = options.spin;
  client_options.io_threads = options.io_threads;
  client_options.dedup = options.dedup;
  client_options.cache_bytes = options.cache_mb << 20;
  client_options.verify_share = options.verify_share;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(client_options));
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    ASSIGN_OR_RETURN(metrics, ServeMetrics(*client, options.metrics));
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> ids,
                   DrawRows(*client, options.layer, options.ids, options.batch));
  std::optional<std::vector<pid_t>> pids = options.server_pids;
  if (options.server_pids.empty()) pids = FindListeners(options.servers);

  BatchRunOptions run_options{ids,
                              options.batch,
                              options.depth,
                              client->layout().row_bytes(),
                              std::min(options.time / 5, absl::Seconds(1)),
                              nullptr};
  // First touches, connections' windows and allocators' pools are not what is asked about.
  BatchRun warm(run_options);
  RETURN_IF_ERROR(AskClient(*client, options.layer, LookupPriority::kDecode, warm));
  run_options.time = options.time;
  BatchRun run(run_options);
  const CpuUse before = MeasureCpu(pids);
  RETURN_IF_ERROR(AskClient(*client, options.layer, LookupPriority::kDecode, run));
  const CpuUse after = MeasureCpu(pids);
  if (run.batches() == 0) {
    return absl::DeadlineExceededError("no lookup was done within --seconds");
  }
  return Report(options, client->layout().row_bytes(), run, before, after);
}

}  // namespace engram::bench

#include "tests/bench/gather.h"

#include <algorithm>
#include <chrono>

#include "client/client.h"
#include "proto/base/status_macros.h"
#include "tests/bench/process_cpu.h"
#include "tests/bench/row_source.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The lookups in flight: a ring of buffers, taken in the order of their submission.
class Pipeline {
 public:
  Pipeline(Client& client, const GatherOptions& options, const std::vector<int64_t>& ids)
      : client_(client), options_(options), ids_(ids), slots_(options.depth) {
    const size_t bytes = size_t{options.batch} * client.layout().row_bytes();
    for (Slot& slot : slots_) slot.out.resize(bytes);
  }

  // Keeps the ring full for `time`, then empties it. `latencies_us` gets one entry a lookup.
  absl::Status Run(absl::Duration time, std::vector<double>& latencies_us) {
    const Clock::time_point end = Clock::now() + absl::ToChronoNanoseconds(time);
    for (Slot& slot : slots_) RETURN_IF_ERROR(Submit(slot));
    size_t oldest = 0;
    for (; Clock::now() < end; oldest = (oldest + 1) % slots_.size()) {
      RETURN_IF_ERROR(Take(slots_[oldest], latencies_us));
      RETURN_IF_ERROR(Submit(slots_[oldest]));
    }
    for (size_t i = 0; i < slots_.size(); ++i) {
      RETURN_IF_ERROR(Take(slots_[(oldest + i) % slots_.size()], latencies_us));
    }
    return absl::OkStatus();
  }

 private:
  struct Slot {
    std::vector<uint8_t> out;  // before `ticket`, whose end is the last use of it
    Clock::time_point submitted;
    Ticket ticket;
  };

  absl::Status Submit(Slot& slot) {
    if (next_id_ + options_.batch > ids_.size()) next_id_ = 0;
    const std::span<const int64_t> rows =
        std::span<const int64_t>(ids_).subspan(next_id_, options_.batch);
    next_id_ += options_.batch;
    slot.submitted = Clock::now();
    ASSIGN_OR_RETURN(slot.ticket, client_.SubmitRows({{options_.layer, rows, slot.out}}, {}));
    return absl::OkStatus();
  }

  absl::Status Take(Slot& slot, std::vector<double>& latencies_us) {
    RETURN_IF_ERROR(slot.ticket.Wait(options_.layer));
    latencies_us.push_back(SecondsSince(slot.submitted) * 1e6);
    return absl::OkStatus();
  }

  Client& client_;
  const GatherOptions& options_;
  const std::vector<int64_t>& ids_;
  std::vector<Slot> slots_;
  size_t next_id_ = 0;
};

double Percentile(std::vector<double>& values, double share) {
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

struct CpuUse {
  double client_s = 0;
  std::optional<double> servers_s;
};

CpuUse MeasureCpu(const std::optional<std::vector<pid_t>>& pids) {
  return {OwnCpuSeconds(), pids.has_value() ? CpuSeconds(*pids) : std::nullopt};
}

nlohmann::json Report(const GatherOptions& options, uint32_t row_bytes, double seconds,
                      const CpuUse& before, const CpuUse& after, std::vector<double> latencies) {
  const double rows = static_cast<double>(latencies.size()) * options.batch;
  const double gb = rows * row_bytes * 1e-9;
  nlohmann::json report = {{"rows_per_s", rows / seconds},
                           {"gb_per_s", gb / seconds},
                           {"p50_us", Percentile(latencies, 0.50)},
                           {"p99_us", Percentile(latencies, 0.99)},
                           {"server_cpu_s_per_gb", nullptr},
                           {"client_cpu_s_per_gb", (after.client_s - before.client_s) / gb},
                           {"lookups", latencies.size()},
                           {"batch", options.batch},
                           {"depth", options.depth},
                           {"seconds", seconds},
                           {"ids", options.ids},
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
  client_options.spin = options.spin;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(client_options));
  ASSIGN_OR_RETURN(std::vector<int64_t> ids,
                   DrawRows(*client, options.layer, options.ids, options.batch));
  std::optional<std::vector<pid_t>> pids = options.server_pids;
  if (options.server_pids.empty()) pids = FindListeners(options.servers);

  Pipeline pipeline(*client, options, ids);
  std::vector<double> latencies;
  // First touches, connections' windows and allocators' pools are not what is asked about.
  RETURN_IF_ERROR(pipeline.Run(std::min(options.time / 5, absl::Seconds(1)), latencies));
  latencies.clear();
  const CpuUse before = MeasureCpu(pids);
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(pipeline.Run(options.time, latencies));
  const double seconds = SecondsSince(start);
  const CpuUse after = MeasureCpu(pids);
  return Report(options, client->layout().row_bytes(), seconds, before, after,
                std::move(latencies));
}

}  // namespace engram::bench

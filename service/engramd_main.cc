// engramd: loads one shard of a checkpoint's Engram tables and serves it until SIGTERM.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/process_tuning.h"
#include "proto/base/status_macros.h"
#include "service/config_file.h"
#include "service/end_signals.h"
#include "service/engramd_flags.h"
#include "service/health_port.h"
#include "service/log.h"
#include "service/metrics_exporter.h"
#include "service/server.h"
#include "service/startup.h"
#include "storage/disk/disk_table.h"
#include "storage/table.h"
#include "storage/verifier.h"
#include "storage/warm_up.h"

namespace engram {
namespace {

// How long clients have to move away before streams are ended, and how long answers may then take.
constexpr absl::Duration kDrainGrace = absl::Seconds(10);

using LogLine = std::function<void(absl::string_view)>;

// null: no metrics are asked for.
absl::StatusOr<std::unique_ptr<MetricsExporter>> StartMetrics(const EngramdFlags& flags,
                                                              const Startup& startup) {
  if (flags.metrics.empty()) return nullptr;
  return MetricsExporter::Start({flags.metrics, flags.shard, flags.store, &startup});
}

void PrintServing(const Table& table, const Sha256& digest, const Server& server,
                  const MetricsExporter* metrics) {
  std::string line =
      absl::StrCat("serving model=", table.model, " digest=", ToHex(digest),
                   " shard=", table.shard.ToString(), " rows=", TotalRows(table.rows->ranges()),
                   " bytes=", table.rows->bytes(), " listen=", server.address());
  if (!server.health_address().empty()) absl::StrAppend(&line, " health=", server.health_address());
  if (metrics != nullptr) absl::StrAppend(&line, " metrics=", metrics->address());
  std::cout << line << std::endl;
}

// null where the load has verified every row and nobody asks for more.
std::unique_ptr<Verifier> StartVerifier(const EngramdFlags& flags, const RowStore& rows,
                                        const Generations& generations, const LogLine& log) {
  VerifierOptions options;
  options.served = [&generations] {
    std::vector<std::shared_ptr<const RowStore>> served;
    for (const auto& held : generations.current()->held()) served.push_back(held->rows);
    return served;
  };
  options.bytes_per_second =
      (rows.may_wait() ? flags.verify_disk_mb_s : flags.verify_mb_s) * 1'000'000;
  options.log = log;
  if (flags.verify_interval_s != 0) {
    options.interval = absl::Seconds(static_cast<int64_t>(flags.verify_interval_s));
  } else if (rows.state().verified_passes != 0) {
    return nullptr;
  }
  return std::make_unique<Verifier>(rows, std::move(options));
}

// What is to be over before lookups are served, beside the load.
absl::Status Prepare(const EngramdFlags& flags, const RowStore& rows, const LogLine& log,
                     Startup& startup) {
  const auto parallel = [&](const char* what) {
    return ParallelOptions{flags.load_threads, what, log, &startup.progress()};
  };
  if (flags.ready_after == "verified" && rows.state().verified_passes == 0) {
    startup.Enter(StartupState::kVerifying);
    RETURN_IF_ERROR(VerifyAll(rows, parallel("verifying")));
    rows.state().verified_passes = 1;
  }
  if (flags.warm_up && flags.store == "mapped") {
    startup.Enter(StartupState::kWarming);
    return WarmUp(rows, parallel("warming"));
  }
  if (flags.warm_up) log(absl::StrCat("a `", flags.store, "` store has nothing to warm up"));
  return absl::OkStatus();
}

void LogSlow(const Server& server, const LogLine& log) {
  const std::vector<SlowRequest> slow = server.slow_requests();
  log(absl::StrCat(slow.size(), " slowest requests of the last two minutes:"));
  for (const SlowRequest& request : slow) log(ToString(request));
}

absl::Status Run(const EngramdFlags& flags, const LogLine& log) {
  static EndSignals& signals = *new EndSignals(log);  // before there are threads
  ASSIGN_OR_RETURN(LoadOptions load, ToLoadOptions(flags));
  load.log = log;
  ServerOptions options = flags.server;
  options.spin = absl::Microseconds(flags.spin_us);
  options.security.log = log;
  options.log = log;
  RETURN_IF_ERROR(options.Validate());
  DiskOptions disk = flags.disk;
  disk.data_dir = flags.data_dir;
  Startup startup(log);
  load.progress = &startup.progress();
  std::shared_ptr<HealthPort> health;
  if (!options.health.empty()) {
    ASSIGN_OR_RETURN(health, HealthPort::Start(options.health));
    log(absl::StrCat("health at ", health->address()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<MetricsExporter> metrics, StartMetrics(flags, startup));
  if (metrics != nullptr) log(absl::StrCat("metrics at ", metrics->address()));
  startup.Enter(StartupState::kLoading);
  ASSIGN_OR_RETURN(Table loaded,
                   load.store == StoreKind::kRocksDb ? OpenDiskTable(load, disk) : LoadTable(load));
  malloc_trim(0);  // What parsing took is not kept for answers.
  const auto table = std::make_shared<const Table>(std::move(loaded));
  RETURN_IF_ERROR(Prepare(flags, *table->rows, log, startup));

  std::unique_ptr<Generations> generations;
  if (flags.data_dir.empty()) {
    generations = std::make_unique<Generations>(table);
  } else {
    ASSIGN_OR_RETURN(generations, Generations::Open(table, flags.data_dir, log));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                   Server::Start(table, options, generations.get(), health));
  signals.Serve([&] { LogSlow(*server, log); });
  startup.Enter(StartupState::kServing);
  if (metrics != nullptr) metrics->SetServing(table.get(), generations.get(), server.get());
  PrintServing(*table, generations->current()->active().digest, *server, metrics.get());
  const std::unique_ptr<Verifier> verifier = StartVerifier(flags, *table->rows, *generations, log);
  signals.Wait();
  server->Stop(absl::Milliseconds(flags.drain_ms), kDrainGrace);
  metrics.reset();  // Before what it looks at.
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app{"engramd serves a shard of a model's Engram tables from memory"};
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("error: ", error.what(), " (see --help)\n");
  });
  EngramdFlags flags;
  AddFlags(app, flags);
  CLI11_PARSE(app, argc, argv);
  if (flags.print_config) {
    std::cout << ConfigText(app) << std::flush;
    return 0;
  }
  static Log& log = *new Log(flags.log_format == "json");  // gRPC's threads outlive this function
  log.TakeGrpcErrors();
  const absl::Status status =
      Run(flags, [](absl::string_view line) { log.Write(LogLevel::kInfo, line); });
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) { return engram::Main(argc, argv); }

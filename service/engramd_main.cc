// engramd: loads one shard of a checkpoint's Engram tables and serves it until SIGTERM.
#include <malloc.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/process_tuning.h"
#include "proto/base/status_macros.h"
#include "proto/version.h"
#include "service/server.h"
#include "storage/table.h"
#include "storage/verifier.h"

namespace engram {
namespace {

// How long clients have to move away before streams are ended, and how long answers may then take.
constexpr absl::Duration kDrainGrace = absl::Seconds(10);

struct Flags {
  std::string checkpoint;
  std::string shard = "0/1";
  std::string shard_map;
  std::string store = "memory";
  std::string sidecar;
  std::string expect_digest;
  uint32_t load_threads = 0;
  uint64_t spin_us = 0;
  uint64_t memory_budget = 0;
  uint64_t verify_mb_s = 500;
  uint64_t verify_interval_s = 0;
  uint64_t drain_ms = 500;
  ServerOptions server;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--checkpoint", flags.checkpoint,
                 "Hugging Face checkpoint directory: config.json, the safetensors files that hold "
                 "Engram tables (with index), tokenizer.json where there is one")
      ->required();
  app.add_option("--shard", flags.shard,
                 "I/N: the I-th of N equal ranges of every layer's rows; with --shard-map a name")
      ->capture_default_str();
  app.add_option("--shard-map", flags.shard_map,
                 "JSON file that says what each shard holds, by shares or by ranges of rows");
  app.add_option(
         "--store", flags.store,
         "Where rows live while they are served: memory, or mapped (the checkpoint's files, "
         "through the page cache)")
      ->capture_default_str();
  app.add_option("--memory-budget", flags.memory_budget,
                 "Bytes that a `memory` shard may take (0: what the machine or cgroup has left)")
      ->capture_default_str();
  app.add_option("--listen", flags.server.listen,
                 "host:port (port 0 picks one) or unix:PATH of the lookup service")
      ->capture_default_str();
  app.add_option("--health", flags.server.health, "A second address for health checks alone");
  app.add_option("--sidecar", flags.sidecar,
                 "File written by `engramctl digest` (default: engram.sidecar in the checkpoint)");
  app.add_option("--expect-digest", flags.expect_digest,
                 "Refuse any table but this (64 hex digits)");
  app.add_option("--threads", flags.server.threads,
                 "Threads that poll and gather (0: one per core)")
      ->capture_default_str();
  app.add_option("--load-threads", flags.load_threads, "Threads that load (0: one per core)")
      ->capture_default_str();
  app.add_option("--spin-us", flags.spin_us,
                 "Microseconds a thread polls before it sleeps; 0: an idle server takes no CPU")
      ->capture_default_str();
  app.add_option("--verify-mb-s", flags.verify_mb_s,
                 "Megabytes of rows verified a second in the background (0: as fast as can be)")
      ->capture_default_str();
  app.add_option("--verify-interval", flags.verify_interval_s,
                 "Seconds between two verifications of all rows (0: only what the load has not "
                 "verified)")
      ->capture_default_str();
  app.add_option("--drain-ms", flags.drain_ms,
                 "On SIGTERM: milliseconds between telling clients and ending their streams")
      ->capture_default_str();
  app.add_option("--max-rows-per-request", flags.server.max_rows_per_request,
                 "Rows that one request of a stream may ask for")
      ->capture_default_str();
  app.add_option("--max-request-bytes", flags.server.max_request_bytes,
                 "Bytes of one request message; must hold 8 for each row")
      ->capture_default_str();
  app.add_option("--max-requests-in-flight", flags.server.max_requests_in_flight,
                 "Requests of one stream that wait for answers; more are refused")
      ->capture_default_str();
  app.set_version_flag("--version", kVersion);
}

void PrintLog(absl::string_view line) { std::cerr << absl::StrCat(line, "\n") << std::flush; }

absl::StatusOr<LoadOptions> ToLoadOptions(const Flags& flags) {
  LoadOptions options;
  options.checkpoint = flags.checkpoint;
  options.sidecar = flags.sidecar;
  options.memory_budget = flags.memory_budget;
  ASSIGN_OR_RETURN(options.store, ParseStoreKind(flags.store));
  if (flags.shard_map.empty()) {
    ASSIGN_OR_RETURN(options.shard, Shard::Parse(flags.shard));
  } else {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.shard_map, kMaxShardMapBytes));
    ASSIGN_OR_RETURN(options.shard_map, ShardMap::Parse(text, flags.shard_map));
    ASSIGN_OR_RETURN(options.shard, options.shard_map->Find(flags.shard));
  }
  if (!flags.expect_digest.empty()) {
    ASSIGN_OR_RETURN(options.expect_digest, Sha256FromHex(flags.expect_digest));
  }
  options.threads = flags.load_threads;
  options.log = PrintLog;
  return options;
}

void PrintServing(const Table& table, const Server& server) {
  std::string line =
      absl::StrCat("serving model=", table.model, " digest=", ToHex(table.digest),
                   " shard=", table.shard.ToString(), " rows=", TotalRows(table.rows->ranges()),
                   " bytes=", table.rows->bytes(), " listen=", server.address());
  if (!server.health_address().empty()) absl::StrAppend(&line, " health=", server.health_address());
  std::cout << line << std::endl;
}

// null where the load has verified every row and nobody asks for more.
std::unique_ptr<Verifier> StartVerifier(const Flags& flags, const RowStore& rows) {
  VerifierOptions options;
  options.bytes_per_second = flags.verify_mb_s * 1'000'000;
  options.log = PrintLog;
  if (flags.verify_interval_s != 0) {
    options.interval = absl::Seconds(static_cast<int64_t>(flags.verify_interval_s));
  } else if (rows.state().verified_passes != 0) {
    return nullptr;
  }
  return std::make_unique<Verifier>(rows, std::move(options));
}

absl::Status Run(const Flags& flags) {
  // Blocked in every thread: the main thread takes them when it has nothing else to do.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);

  ASSIGN_OR_RETURN(const LoadOptions load, ToLoadOptions(flags));
  ServerOptions options = flags.server;
  options.spin = absl::Microseconds(flags.spin_us);
  RETURN_IF_ERROR(options.Validate());
  ASSIGN_OR_RETURN(Table loaded, LoadTable(load));
  malloc_trim(0);  // What parsing took is not kept for answers.
  const auto table = std::make_shared<const Table>(std::move(loaded));

  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // While loading, SIGTERM ends us at once.
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(table, options));
  PrintServing(*table, *server);
  const std::unique_ptr<Verifier> verifier = StartVerifier(flags, *table->rows);
  int signal = 0;
  sigwait(&signals, &signal);
  std::cerr << "signal " << signal << ": draining" << std::endl;
  server->Stop(absl::Milliseconds(flags.drain_ms), kDrainGrace);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app{"engramd serves a shard of a model's Engram tables from memory"};
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("error: ", error.what(), " (see --help)\n");
  });
  Flags flags;
  AddFlags(app, flags);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(flags);
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) { return engram::Main(argc, argv); }

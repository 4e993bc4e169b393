// engramd: loads one shard of a checkpoint's Engram tables into memory and serves it until SIGTERM.
#include <malloc.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "service/server.h"
#include "service/version.h"
#include "storage/table.h"

namespace engram {
namespace {

// How long clients have to move away before streams are ended, and how long answers may then take.
constexpr absl::Duration kDrainGrace = absl::Seconds(10);

struct Flags {
  std::string checkpoint;
  std::string shard = "0/1";
  std::string store = "memory";
  std::string sidecar;
  std::string expect_digest;
  uint32_t load_threads = 0;
  uint64_t spin_us = 0;
  uint64_t drain_ms = 500;
  ServerOptions server;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--checkpoint", flags.checkpoint,
                 "Hugging Face checkpoint directory: config.json, the safetensors files that hold "
                 "Engram tables (with index), tokenizer.json where there is one")
      ->required();
  app.add_option("--shard", flags.shard, "I/N: the I-th of N equal ranges of every layer's rows")
      ->capture_default_str();
  app.add_option("--store", flags.store, "Where rows live while they are served: memory")
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

absl::StatusOr<LoadOptions> ToLoadOptions(const Flags& flags) {
  if (flags.store != "memory") {
    return absl::UnimplementedError(
        absl::StrCat("--store ", flags.store, ": this version has the store `memory` alone"));
  }
  LoadOptions options;
  options.checkpoint = flags.checkpoint;
  options.sidecar = flags.sidecar;
  ASSIGN_OR_RETURN(options.shard, Shard::Parse(flags.shard));
  if (!flags.expect_digest.empty()) {
    ASSIGN_OR_RETURN(options.expect_digest, Sha256FromHex(flags.expect_digest));
  }
  options.threads = flags.load_threads;
  options.log = [](absl::string_view line) { std::cerr << line << std::endl; };
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
  const auto table = std::make_shared<const Table>(std::move(loaded));

  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // While loading, SIGTERM ends us at once.
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(table, options));
  PrintServing(*table, *server);
  int signal = 0;
  sigwait(&signals, &signal);
  std::cerr << "signal " << signal << ": draining" << std::endl;
  server->Stop(absl::Milliseconds(flags.drain_ms), kDrainGrace);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  // Answers come and go in blocks of 256 KiB: keep them, instead of asking the kernel each time.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  mallopt(M_TOP_PAD, 16 << 20);
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

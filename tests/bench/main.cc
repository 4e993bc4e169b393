// engram-bench: prints one JSON object per command; see tests/bench/README.md.
#include <CLI/CLI.hpp>
#include <iostream>

#include "proto/base/process_tuning.h"
#include "tests/bench/gather.h"
#include "tests/bench/load.h"
#include "tests/bench/peers.h"
#include "tests/bench/peers/naive_server.h"
#include "tests/bench/peers/raw_server.h"

namespace engram::bench {
namespace {

void AddGather(CLI::App& app, GatherOptions& options, double& seconds, int64_t& spin_us) {
  CLI::App* gather = app.add_subcommand("gather", "lookups of one layer from running servers");
  gather->add_option("--servers", options.servers, "any of the servers, with commas")
      ->delimiter(',')
      ->required();
  gather->add_option("--layer", options.layer, "layer id")->capture_default_str();
  gather->add_option("--batch", options.batch, "rows a lookup")->capture_default_str();
  gather->add_option("--depth", options.depth, "lookups in flight")->capture_default_str();
  gather->add_option("--seconds", seconds, "how long to measure")->capture_default_str();
  gather->add_option("--ids", options.ids, "uniform, zipf or trace:FILE")->capture_default_str();
  gather->add_option("--spin-us", spin_us, "how long the client polls before it sleeps")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}))
      ->capture_default_str();
  gather->add_option("--io-threads", options.io_threads, "the client's threads")
      ->capture_default_str();
  gather
      ->add_option("--server-pids", options.server_pids,
                   "the servers' processes on this machine, where they cannot be found")
      ->delimiter(',');
}

void AddLoad(CLI::App& app, LoadBenchOptions& options) {
  CLI::App* load = app.add_subcommand("load", "a checkpoint into memory, against a copy by cat");
  load->add_option("--checkpoint", options.checkpoint, "directory, with its sidecar")->required();
  load->add_option("--tmpfs", options.tmpfs, "where cat writes to")->capture_default_str();
  load->add_option("--rounds", options.rounds, "pairs of a copy and a load")->capture_default_str();
}

struct PeersFlags {
  PeersOptions options;
  double seconds = 1;
  int64_t spin_us = 1000;
};

void AddPeers(CLI::App& app, PeersFlags& flags) {
  CLI::App* peers = app.add_subcommand("peers", "the same batches from us and from others");
  peers->add_option("--only", flags.options.only, "peers beside engram, with commas")
      ->delimiter(',');
  peers->add_option("--dir", flags.options.directory, "where tables are written");
  peers->add_option("--batches", flags.options.batches, "rows a batch, with commas")
      ->delimiter(',');
  peers->add_option("--rounds", flags.options.rounds, "runs of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  peers->add_option("--rows", flags.options.rows, "rows that all peers hold")
      ->capture_default_str();
  peers
      ->add_option("--large-rows", flags.options.large_rows,
                   "rows of the bare pair and us (0: none)")
      ->capture_default_str();
  peers->add_option("--seconds", flags.seconds, "of one run")->capture_default_str();
  peers->add_option("--spin-us", flags.spin_us, "how long both sides poll before they sleep")
      ->capture_default_str();
}

struct RawServerFlags {
  RawServerOptions options;
  int64_t spin_us = 0;
};

void AddRawServer(CLI::App& app, RawServerFlags& flags) {
  CLI::App* server = app.add_subcommand("raw-server", "the bare server that `peers` starts");
  server->group("");  // not in the help
  server->add_option("--checkpoint", flags.options.checkpoint, "directory")->required();
  server->add_option("--shard-map", flags.options.shard_map, "file");
  server->add_option("--spin-us", flags.spin_us, "how long it polls before it sleeps");
}

// What the naive peer starts; for nobody else, so the help does not name it.
void AddNaiveServer(CLI::App& app, uint64_t& rows) {
  CLI::App* server = app.add_subcommand("naive-server")->group("");
  server->add_option("--rows", rows, "rows of the table")->required();
}

int PrintError(const absl::Status& status) {
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << "\n";
  return 1;
}

int Print(const absl::StatusOr<nlohmann::json>& report) {
  if (!report.ok()) return PrintError(report.status());
  std::cout << report->dump() << std::endl;
  return 0;
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app("Benchmarks of Engram memory servers.", "engram-bench");
  app.require_subcommand(1);
  GatherOptions gather;
  double seconds = 5;
  int64_t spin_us = 0;
  AddGather(app, gather, seconds, spin_us);
  LoadBenchOptions load;
  AddLoad(app, load);
  PeersFlags peers;
  AddPeers(app, peers);
  RawServerFlags raw_server;
  AddRawServer(app, raw_server);
  uint64_t naive_rows = 0;
  AddNaiveServer(app, naive_rows);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  if (app.got_subcommand("load")) return Print(RunLoad(load));
  if (app.got_subcommand("peers")) {
    peers.options.time = absl::Seconds(peers.seconds);
    peers.options.spin = absl::Microseconds(peers.spin_us);
    return Print(RunPeers(peers.options));
  }
  if (app.got_subcommand("raw-server")) {
    raw_server.options.spin = absl::Microseconds(raw_server.spin_us);
    return PrintError(RunRawServer(raw_server.options));
  }
  if (app.got_subcommand("naive-server")) return PrintError(RunNaiveServer(naive_rows));
  gather.time = absl::Seconds(seconds);
  gather.spin = absl::Microseconds(spin_us);
  return Print(RunGather(gather));
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }

// engram-bench: prints one JSON object per command; see tests/bench/README.md.
#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>
#include <memory>

#include "deploy/engramctl/servers_flags.h"
#include "proto/base/process_tuning.h"
#include "tests/bench/disk.h"
#include "tests/bench/gather.h"
#include "tests/bench/load.h"
#include "tests/bench/overlap/command.h"
#include "tests/bench/overlap/link.h"
#include "tests/bench/peer_tables.h"
#include "tests/bench/peers.h"
#include "tests/bench/peers/naive_server.h"
#include "tests/bench/peers/raw_server.h"
#include "tests/bench/restart.h"
#include "tests/bench/scale.h"
#include "tests/bench/sharing.h"
#include "tests/bench/trace.h"

namespace engram::bench {
namespace {

// What the command that was given does; returns the exit code.
using Command = std::function<int()>;

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

// Flags of a command, as numbers, beside the options that they end up in.
template <typename Options>
struct Flags {
  Options options;
  double seconds = 0;
  int64_t spin_us = 0;

  // The options with the flags in them.
  Options Take() {
    options.time = absl::Seconds(seconds);
    options.spin = absl::Microseconds(spin_us);
    return options;
  }
};

template <typename Options>
std::shared_ptr<Flags<Options>> TimedFlags(CLI::App* command) {
  auto flags = std::make_shared<Flags<Options>>();
  flags->seconds = absl::ToDoubleSeconds(flags->options.time);
  flags->spin_us = absl::ToInt64Microseconds(flags->options.spin);
  command->add_option("--seconds", flags->seconds, "of one run")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  command->add_option("--spin-us", flags->spin_us, "how long both sides poll before they sleep")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}))
      ->capture_default_str();
  return flags;
}

void AddGather(CLI::App& app, Command& command) {
  CLI::App* gather = app.add_subcommand("gather", "lookups of one layer from running servers");
  const auto flags = TimedFlags<GatherOptions>(gather);
  GatherOptions& options = flags->options;
  gather->add_option("--servers", options.servers, "any of the servers, with commas")
      ->delimiter(',')
      ->required();
  AddCredentialFlags(gather, options.credentials);
  gather->add_option("--layer", options.layer, "layer id")->capture_default_str();
  gather->add_option("--batch", options.batch, "rows a lookup")->capture_default_str();
  gather->add_option("--depth", options.depth, "lookups in flight")->capture_default_str();
  gather->add_option("--ids", options.ids, "uniform, zipf or trace:FILE")->capture_default_str();
  gather->add_option("--io-threads", options.io_threads, "the client's threads")
      ->capture_default_str();
  gather->add_option("--metrics", options.metrics, "host:port of the client's metrics");
  gather->add_flag("--dedup,!--no-dedup", options.dedup, "n-grams of a lookup once (default)");
  gather->add_option("--cache-mb", options.cache_mb, "the client's cache; 0: none")
      ->capture_default_str();
  gather
      ->add_option("--server-pids", options.server_pids,
                   "the servers' processes on this machine, where they cannot be found")
      ->delimiter(',');
  gather->callback([=, &command] { command = [=] { return Print(RunGather(flags->Take())); }; });
}

void AddLoad(CLI::App& app, Command& command) {
  CLI::App* load = app.add_subcommand("load", "a checkpoint into memory, against a copy by cat");
  const auto options = std::make_shared<LoadBenchOptions>();
  load->add_option("--checkpoint", options->checkpoint, "directory, with its sidecar")->required();
  load->add_option("--tmpfs", options->tmpfs, "where cat writes to")->capture_default_str();
  load->add_option("--rounds", options->rounds, "pairs of a copy and a load")
      ->capture_default_str();
  load->callback([=, &command] { command = [=] { return Print(RunLoad(*options)); }; });
}

void AddRestart(CLI::App& app, Command& command) {
  CLI::App* restart = app.add_subcommand("restart", "servers that take their rows from an arena");
  const auto options = std::make_shared<RestartOptions>();
  restart->add_option("--gb", options->gb, "sizes of the tables, with commas")
      ->delimiter(',')
      ->check(CLI::Range(0.01, 1000.0));
  restart->add_option("--tmpfs", options->tmpfs, "where the arenas live")->capture_default_str();
  restart->add_option("--tokenizer", options->tokenizer, "tokenizer.json for the checkpoints");
  restart->add_option("--rounds", options->rounds, "restarts of each")->capture_default_str();
  restart->callback([=, &command] { command = [=] { return Print(RunRestart(*options)); }; });
}

std::shared_ptr<Flags<ScaleOptions>> ScaleFlags(CLI::App* command) {
  const auto flags = TimedFlags<ScaleOptions>(command);
  command->add_option("--rows", flags->options.rows, "of the tables, with commas")->delimiter(',');
  command->add_option("--batch", flags->options.batch, "rows a lookup")->capture_default_str();
  command->add_option("--rounds", flags->options.rounds, "runs of each")->capture_default_str();
  return flags;
}

void AddScale(CLI::App& app, Command& command) {
  CLI::App* scale = app.add_subcommand("scale", "lookups of tables of more and more rows");
  const auto flags = ScaleFlags(scale);
  scale->callback([=, &command] { command = [=] { return Print(RunScale(flags->Take())); }; });
  CLI::App* server = app.add_subcommand("scale-server")->group("");  // what `scale` starts
  const auto server_flags = ScaleFlags(server);
  server->callback([=, &command] {
    command = [=] { return PrintError(RunScaleServer(server_flags->Take())); };
  });
}

void AddPeers(CLI::App& app, Command& command) {
  CLI::App* peers = app.add_subcommand("peers", "the same batches from us and from others");
  const auto flags = TimedFlags<PeersOptions>(peers);
  PeersOptions& options = flags->options;
  peers->add_option("--only", options.only, "peers beside engram, with commas")->delimiter(',');
  peers->add_option("--dir", options.directory, "where tables are written");
  peers->add_option("--batches", options.batches, "rows a batch, with commas")->delimiter(',');
  peers->add_option("--rounds", options.rounds, "runs of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  peers->add_option("--rows", options.rows, "rows that all peers hold")->capture_default_str();
  peers->add_option("--large-rows", options.large_rows, "rows of the bare pair and us (0: none)")
      ->capture_default_str();
  peers->callback([=, &command] { command = [=] { return Print(RunPeers(flags->Take())); }; });
}

void AddOverlap(CLI::App& app, Command& command) {
  CLI::App* overlap =
      app.add_subcommand("overlap", "how long a model's layers wait for rows from servers");
  const auto flags = std::make_shared<OverlapFlags>(overlap);
  overlap->callback([=, &command] {
    command = [=] {
      const absl::StatusOr<OverlapOptions> options = flags->Options();
      return options.ok() ? Print(RunOverlap(*options)) : PrintError(options.status());
    };
  });
  CLI::App* link = app.add_subcommand("link", "what the emulated link of `overlap --link` can do");
  const auto text = std::make_shared<std::string>("delay=0us");
  link->add_option("--link", *text, "delay and loss, each way (needs root)")->capture_default_str();
  link->callback([=, &command] { command = [=] { return Print(RunLink(*text)); }; });
}

void AddSharing(CLI::App& app, const char* name, const char* what,
                absl::StatusOr<nlohmann::json> (*run)(const SharingOptions&), Command& command) {
  CLI::App* sharing = app.add_subcommand(name, what);
  const auto flags = TimedFlags<SharingOptions>(sharing);
  sharing->add_option("--rounds", flags->options.rounds, "runs of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sharing->callback([=, &command] { command = [=] { return Print(run(flags->Take())); }; });
}

// The part of `trace` that guesses next tokens.
void AddGuesses(CLI::App* text, TraceBenchOptions& options) {
  GuessBenchOptions& guesses = options.guesses;
  text->add_flag("--only-guesses", options.only_guesses, "none of the variants");
  text->add_option("--guess-steps", guesses.steps, "decode steps with guesses (0: none)")
      ->capture_default_str();
  text->add_option("--guess-sequences", guesses.sequences, "of a step, with commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  text->add_option("--guess-link", guesses.link, "in front of the server (needs root); empty: none")
      ->capture_default_str();
  text->add_option_function<int64_t>(
          "--guess-spin-us", [&guesses](int64_t us) { guesses.spin = absl::Microseconds(us); },
          "how long the client polls before it sleeps")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}));
  text->add_option("--guess-candidates", guesses.guesses.candidates, "of a next token")
      ->capture_default_str();
  text->add_option("--guess-least-hits-per-mb", guesses.guesses.least_hits_per_mb,
                   "guessing stops below")
      ->capture_default_str();
  text->add_option("--guess-bytes-per-second", guesses.guesses.bytes_per_second, "at most")
      ->capture_default_str();
  text->add_option("--successor-bytes", guesses.successor_bytes, "of the file of counts")
      ->capture_default_str();
}

void AddTrace(CLI::App& app, Command& command) {
  CLI::App* text = app.add_subcommand("trace", "chunks of real text, whose n-grams repeat");
  const auto flags = TimedFlags<TraceBenchOptions>(text);
  TraceBenchOptions& options = flags->options;
  text->add_option("--trace", options.trace, "file of token ids")->capture_default_str();
  text->add_option("--tokenizer", options.tokenizer,
                   "tokenizer.json of its token ids (deploy/fetch-tokenizer.sh)")
      ->capture_default_str();
  text->add_option("--cache-mb", options.cache_mb, "caches of the client, with commas")
      ->delimiter(',');
  text->add_option("--only", options.only, "variants beside `off`, with commas")->delimiter(',');
  text->add_option("--chunk", options.chunk, "tokens a lookup")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  text->add_option("--rows", options.rows, "of a layer")->capture_default_str();
  text->add_option("--rounds", options.rounds, "runs of each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  AddGuesses(text, options);
  text->callback([=, &command] { command = [=] { return Print(RunTraceBench(flags->Take())); }; });
}

void AddDisk(CLI::App& app, Command& command) {
  CLI::App* disk = app.add_subcommand("disk", "a shard on disk, and its cache, under real text");
  const auto options = std::make_shared<DiskBenchOptions>();
  disk->add_option("--trace", options->trace, "file of token ids")->capture_default_str();
  disk->add_option("--tokenizer", options->tokenizer, "tokenizer.json of its token ids")
      ->capture_default_str();
  disk->add_option("--dir", options->directory, "where table and database are written");
  disk->add_option("--rows", options->rows, "of a layer")->capture_default_str();
  disk->add_option("--budgets", options->budgets, "per cent of the table, with commas, ascending")
      ->delimiter(',')
      ->check(CLI::Range(0.1, 90.0));
  disk->add_option("--chunk", options->chunk, "tokens at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  disk->add_option("--warm-tokens", options->warm_tokens, "that fill the cache")
      ->capture_default_str();
  disk->add_option("--tokens", options->tokens, "that are measured")->capture_default_str();
  disk->add_option("--read-threads", options->read_threads, "that wait for the disk")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  disk->add_flag("--direct-reads,!--no-direct-reads", options->direct_reads,
                 "past the page cache (default)");
  disk->callback([=, &command] { command = [=] { return Print(RunDiskBench(*options)); }; });
}

// What `peers` starts; for nobody else, so the help does not name them.
void AddPeerServers(CLI::App& app, Command& command) {
  CLI::App* raw = app.add_subcommand("raw-server")->group("");
  const auto options = std::make_shared<RawServerOptions>();
  const auto spin_us = std::make_shared<int64_t>(0);
  raw->add_option("--checkpoint", options->checkpoint, "directory")->required();
  raw->add_option("--shard-map", options->shard_map, "file");
  raw->add_option("--spin-us", *spin_us, "how long it polls before it sleeps");
  raw->callback([=, &command] {
    options->spin = absl::Microseconds(*spin_us);
    command = [=] { return PrintError(RunRawServer(*options)); };
  });
  CLI::App* naive = app.add_subcommand("naive-server")->group("");
  const auto rows = std::make_shared<uint64_t>(0);
  naive->add_option("--rows", *rows, "rows of the table")->required();
  naive->callback([=, &command] { command = [=] { return PrintError(RunNaiveServer(*rows)); }; });
}

int Main(int argc, char** argv) {
  TuneProcess();
  RemoveScratchOnSignals();
  CLI::App app("Benchmarks of Engram memory servers.", "engram-bench");
  app.require_subcommand(1);
  Command command;
  AddDisk(app, command);
  AddGather(app, command);
  AddLoad(app, command);
  AddOverlap(app, command);
  AddPeers(app, command);
  AddRestart(app, command);
  AddScale(app, command);
  AddSharing(app, "fairness", "small lookups beside large ones", RunFairness, command);
  AddSharing(app, "cores", "a server on one core and on two", RunCores, command);
  AddTrace(app, command);
  AddPeerServers(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  return command();
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }

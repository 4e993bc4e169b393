// engram-bench: prints one JSON object per command; see tests/bench/README.md.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "tests/bench/gather.h"

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
  gather
      ->add_option("--server-pids", options.server_pids,
                   "the servers' processes on this machine, where they cannot be found")
      ->delimiter(',');
}

int Print(const absl::StatusOr<nlohmann::json>& report) {
  if (!report.ok()) {
    std::cerr << "error: " << report.status().message() << "\n";
    return 1;
  }
  std::cout << report->dump() << std::endl;
  return 0;
}

int Main(int argc, char** argv) {
  // Row buffers are megabytes: without this every answer is mapped and unmapped, which costs a
  // third of the throughput. Process-wide, so for a main to decide, never for the library.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 16 << 20);

  CLI::App app("Benchmarks of Engram memory servers.", "engram-bench");
  app.require_subcommand(1);
  GatherOptions gather;
  double seconds = 5;
  int64_t spin_us = 0;
  AddGather(app, gather, seconds, spin_us);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  gather.time = absl::Seconds(seconds);
  gather.spin = absl::Microseconds(spin_us);
  return Print(RunGather(gather));
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }

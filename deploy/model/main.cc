// engram-generate: a small language model with Engram layers, on a CPU: goes on with a text, or
// says how well it knows one. Rows come from memory servers or from the checkpoint itself.
#include <CLI/CLI.hpp>
#include <cmath>
#include <csignal>
#include <fstream>
#include <iostream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "deploy/engramctl/servers_flags.h"
#include "deploy/model/live_reading.h"
#include "deploy/model/text_model.h"
#include "nlohmann/json.hpp"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram::model {
namespace {

struct Options {
  std::string model;
  std::string tables;                // empty: the model's
  std::vector<std::string> servers;  // empty: the checkpoint's own rows
  Credentials credentials;
  bool follow = false;
  LocalRows rows = LocalRows::kRows;
  std::string prompt;
  GenerateOptions generate;
  std::string read;   // a file to be read instead
  std::string gates;  // where its gates go; empty: nowhere
  // Read it again and again, each step's rows held to these checkpoints; empty: read it once.
  std::vector<std::string> again;
};

volatile std::sig_atomic_t stopped = 0;

// Null for a model without tables.
absl::StatusOr<std::unique_ptr<Memory>> MemoryOf(const Options& options) {
  const std::string path = absl::StrCat(options.model, "/config.json");
  ASSIGN_OR_RETURN(const nlohmann::json config, ReadJsonFile(path, 1 << 20));
  if (!options.servers.empty()) {
    return ConnectMemory({.servers = options.servers,
                          .credentials = options.credentials,
                          .follow_generations = options.follow,
                          .follow_interval = absl::Milliseconds(100),
                          .spin = absl::Milliseconds(1)});
  }
  if (!config.contains("engram_layer_ids") && !config.contains("layer_ids")) return nullptr;
  return OpenMemory(options.tables.empty() ? options.model : options.tables, options.rows);
}

absl::Status WriteGates(const std::string& path, absl::string_view text, const Reading& reading) {
  nlohmann::json layers = nlohmann::json::object();
  for (const auto& [layer, gates] : reading.gates) layers[std::to_string(layer)] = gates;
  std::vector<unsigned> bytes;
  for (char byte : text.substr(0, reading.bytes)) bytes.push_back(static_cast<uint8_t>(byte));
  return WriteFileAtomically(path, nlohmann::json{{"bytes", bytes}, {"gates", layers}}.dump());
}

// A line of JSON a step, until SIGINT or SIGTERM.
absl::Status RunAgain(const Options& options, const Decoder& decoder, Memory& memory,
                      absl::string_view text) {
  ASSIGN_OR_RETURN(const KnownTables tables, KnownTables::Open(options.again));
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stopped = 1; });
  const auto print = [](const LiveStep& step) {
    const nlohmann::json line = {{"step", step.step},
                                 {"window", step.window},
                                 {"table", step.table},
                                 {"nats_a_byte", step.nats},
                                 {"perplexity", std::exp(step.nats)}};
    std::cout << line.dump() << std::endl;
  };
  return ReadLive(decoder, memory, tables, text, print, [] { return stopped != 0; });
}

absl::Status RunRead(const Options& options, const Decoder& decoder, Memory* memory) {
  constexpr uint64_t kMostBytes = 64 << 20;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(options.read, kMostBytes));
  if (!options.again.empty()) return RunAgain(options, decoder, *memory, text);
  ASSIGN_OR_RETURN(const Reading reading, Read(decoder, memory, text));
  if (!options.gates.empty()) RETURN_IF_ERROR(WriteGates(options.gates, text, reading));
  const nlohmann::json figures = {{"bytes", reading.bytes},
                                  {"nats_a_byte", reading.nats},
                                  {"perplexity", std::exp(reading.nats)}};
  std::cout << figures.dump() << "\n";
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Memory> memory, MemoryOf(options));
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Open(options.model, memory.get()));
  if (!options.read.empty()) return RunRead(options, *decoder, memory.get());
  std::cout << options.prompt << std::flush;
  const absl::Status done =
      Generate(*decoder, memory.get(), options.prompt, options.generate, [](char byte) {
        std::cout << byte << std::flush;
      }).status();
  std::cout << "\n";
  return done;
}

int Main(int argc, char** argv) {
  CLI::App app("A small language model whose Engram tables are on memory servers.",
               "engram-generate");
  Options options;
  app.add_option("--model", options.model, "directory of the checkpoint")->required();
  auto* const servers =
      app.add_option("--servers", options.servers,
                     "any of the servers, with commas; none: the checkpoint's own rows")
          ->delimiter(',');
  AddCredentialFlags(&app, options.credentials);
  app.add_flag("--follow", options.follow,
               "take another generation of the tables when the servers have made it active")
      ->needs(servers);
  app.add_option("--tables", options.tables,
                 "directory of another checkpoint whose rows are taken in place of the model's")
      ->excludes(servers);
  app.add_option("--rows", options.rows, "what stands for the checkpoint's rows")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, LocalRows>{{"rows", LocalRows::kRows},
                                           {"zeros", LocalRows::kZeros},
                                           {"shuffled", LocalRows::kShuffled}}))
      ->excludes(servers);
  app.add_option("--prompt", options.prompt, "text to go on with");
  app.add_option("--bytes", options.generate.bytes, "how far")->check(CLI::Range(0, 60000));
  app.add_option("--temperature", options.generate.temperature, "0: always the likeliest byte");
  app.add_option("--seed", options.generate.seed, "of the sampling");
  auto* const read = app.add_option("--read", options.read, "a text: print its perplexity instead");
  app.add_option("--gates", options.gates, "file for the gates at each byte of it (JSON)")
      ->needs(read);
  app.add_option(
         "--again", options.again,
         "checkpoints, with commas: read the text again and again, until SIGINT or SIGTERM; "
         "print a line for each window, and of which of them all of its rows are")
      ->delimiter(',')
      ->needs(read)
      ->needs(servers);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  const absl::Status done = Run(options);
  if (!done.ok()) std::cerr << "error: " << done.message() << "\n";
  return done.ok() ? 0 : 1;
}

}  // namespace
}  // namespace engram::model

int main(int argc, char** argv) { return engram::model::Main(argc, argv); }

// engram-demo-worker: an inference worker without the model. Runs a prefill chunk and decode steps
// of real text against running servers, checks every row, prints what happened and, as the last
// line, the figures as one JSON object. Exits 1 when a row was wrong or a lookup failed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "absl/strings/str_format.h"
#include "client/client.h"
#include "client/metrics_exporter.h"
#include "deploy/demo/shapes.h"
#include "nlohmann/json.hpp"
#include "proto/base/status_macros.h"
#include "proto/token_trace.h"

namespace engram::demo {
namespace {

struct Options {
  std::vector<std::string> servers;
  std::string checkpoint;
  std::string trace;
  std::string metrics;  // empty: nowhere
};

// Ahead and as needed, of one shape.
struct Pair {
  ShapeResult ahead;
  ShapeResult needed;
};

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

std::string StallText(const std::vector<double>& stalls) {
  if (stalls.size() == 1) return absl::StrFormat("%8.3f", stalls[0]);
  return absl::StrFormat("%8.3f (p99 %.3f)", Percentile(stalls, 0.5), Percentile(stalls, 0.99));
}

void PrintShape(const std::string& title, const Pair& pair) {
  std::cout << title << "\n";
  for (const auto& [layer, stalls] : pair.ahead.stall_ms) {
    std::cout << absl::StrFormat("  layer %2d waited: fetched ahead %-20s ms, when needed %s ms\n",
                                 layer, StallText(stalls),
                                 StallText(pair.needed.stall_ms.at(layer)));
  }
}

nlohmann::json LayerFigures(const ShapeResult& result) {
  nlohmann::json layers = nlohmann::json::object();
  for (const auto& [layer, stalls] : result.stall_ms) {
    layers[std::to_string(layer)] = {{"stall_ms_p50", Percentile(stalls, 0.5)},
                                     {"stall_ms_p99", Percentile(stalls, 0.99)}};
  }
  return {{"rows", result.rows},
          {"wrong_rows", result.wrong_rows},
          {"steps", result.steps},
          {"stall_ms", result.TotalStallMs()},
          {"layers", layers}};
}

nlohmann::json Figures(const Pair& prefill, const Pair& decode, uint32_t row_bytes) {
  uint64_t rows = 0;
  uint64_t wrong = 0;
  for (const ShapeResult* run : {&prefill.ahead, &prefill.needed, &decode.ahead, &decode.needed}) {
    rows += run->rows;
    wrong += run->wrong_rows;
  }
  // Only when rows are fetched as needed is all of their way inside the stall.
  const double needed_ms = prefill.needed.TotalStallMs() + decode.needed.TotalStallMs();
  const double needed_rows = static_cast<double>(prefill.needed.rows + decode.needed.rows);
  return {
      {"rows", rows},
      {"bytes", rows * row_bytes},
      {"wrong_rows", wrong},
      {"rows_per_s", needed_rows / (needed_ms * 1e-3)},
      {"stall_ms_ahead", prefill.ahead.TotalStallMs() + decode.ahead.TotalStallMs()},
      {"stall_ms_needed", needed_ms},
      {"prefill",
       {{"ahead", LayerFigures(prefill.ahead)}, {"needed", LayerFigures(prefill.needed)}}},
      {"decode", {{"ahead", LayerFigures(decode.ahead)}, {"needed", LayerFigures(decode.needed)}}}};
}

void PrintSummary(const Pair& prefill, const Pair& decode, const nlohmann::json& figures) {
  std::cout << absl::StrFormat(
      "A model of %d layers, in the time of real GPUs, that reads its tables at the layers below.\n"
      "Ahead: asked for as soon as the tokens are known (prefill: when the chunk before begins;\n"
      "decode: when the step begins). Needed: asked for when the model is at that layer.\n",
      kModelLayers);
  PrintShape(absl::StrFormat("prefill: a chunk of %d tokens, %d ms", kChunkTokens, kPrefillMs),
             prefill);
  PrintShape(absl::StrFormat("decode: %d steps of %d sequences x 1 token, %d ms each; median",
                             kDecodeSteps, kSequences, kDecodeMs),
             decode);
  std::cout << absl::StrFormat(
      "all: %d rows, %.1f MB, %.2f Mrows/s while a layer waited for them (fetched when needed)\n"
      "     waited %.1f ms in all when fetched ahead, %.1f ms when fetched as needed\n"
      "     every row compared with the checkpoint's: %d wrong\n",
      figures["rows"].get<uint64_t>(), static_cast<double>(figures["bytes"].get<uint64_t>()) * 1e-6,
      figures["rows_per_s"].get<double>() * 1e-6, figures["stall_ms_ahead"].get<double>(),
      figures["stall_ms_needed"].get<double>(), figures["wrong_rows"].get<uint64_t>());
}

absl::Status CheckModel(const Client& client) {
  if (client.token_map() == nullptr) {
    return absl::FailedPreconditionError("the servers have no token map, so no text can be run");
  }
  for (uint32_t layer : client.geometry().params().layer_ids) {
    if (layer < kModelLayers) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "the servers' table has layer %d, the demo's model %d layers", layer, kModelLayers));
  }
  return absl::OkStatus();
}

absl::StatusOr<Pair> RunBoth(decltype(&RunPrefill) shape, const Bench& bench,
                             std::span<const uint32_t> tokens) {
  Pair pair;
  ASSIGN_OR_RETURN(pair.ahead, shape(bench, Fetch::kAhead, tokens));
  ASSIGN_OR_RETURN(pair.needed, shape(bench, Fetch::kNeeded, tokens));
  return pair;
}

// The number of wrong rows.
absl::StatusOr<uint64_t> Run(const Options& options) {
  ASSIGN_OR_RETURN(TokenTrace trace, ReadTokenTrace(options.trace));
  ASSIGN_OR_RETURN(std::unique_ptr<RowCheck> check, RowCheck::Open(options.checkpoint));
  ClientOptions client_options;
  client_options.spin = absl::Milliseconds(20);  // longer than a decode step
  client_options.servers = options.servers;
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect(client_options));
  RETURN_IF_ERROR(CheckModel(*client));
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    ASSIGN_OR_RETURN(metrics, ServeMetrics(*client, options.metrics));
  }
  const Bench bench{*client, *check};
  std::vector<uint32_t> text;
  for (const std::vector<uint32_t>& sequence : trace) {
    text.insert(text.end(), sequence.begin(), sequence.end());
  }
  ASSIGN_OR_RETURN(Pair prefill, RunBoth(&RunPrefill, bench, trace.front()));
  ASSIGN_OR_RETURN(Pair decode, RunBoth(&RunDecode, bench, text));
  const nlohmann::json figures = Figures(prefill, decode, client->layout().row_bytes());
  PrintSummary(prefill, decode, figures);
  std::cout << figures.dump() << std::endl;
  return figures["wrong_rows"].get<uint64_t>();
}

int Main(int argc, char** argv) {
  CLI::App app("An inference worker without the model: runs text, checks every row.",
               "engram-demo-worker");
  Options options;
  app.add_option("--servers", options.servers, "any of the servers, with commas")
      ->delimiter(',')
      ->required();
  app.add_option("--checkpoint", options.checkpoint, "what the servers serve")->required();
  app.add_option("--trace", options.trace, "token trace; its first sequence is the prefill's")
      ->required();
  app.add_option("--metrics", options.metrics, "host:port of the client's metrics");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  const absl::StatusOr<uint64_t> wrong = Run(options);
  if (!wrong.ok()) {
    std::cerr << "error: " << wrong.status().message() << "\n";
    return 1;
  }
  if (*wrong > 0) std::cerr << "error: " << *wrong << " rows are not the checkpoint's\n";
  return *wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace engram::demo

int main(int argc, char** argv) { return engram::demo::Main(argc, argv); }

#include "deploy/demo/report.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram::demo {
namespace {

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

std::string StallText(const std::vector<double>& stalls) {
  return absl::StrFormat("%.3f (p99 %.3f)", Percentile(stalls, 0.5), Percentile(stalls, 0.99));
}

std::string LayersText(const Pair& pair) {
  std::string text;
  for (const auto& [layer, stalls] : pair.ahead.stall_ms) {
    absl::StrAppendFormat(&text, "  layer %d waited: fetched ahead %s ms, when needed %s ms\n",
                          layer, StallText(stalls), StallText(pair.needed.stall_ms.at(layer)));
  }
  return text;
}

nlohmann::json RunFigures(const RowFigures& run) {
  nlohmann::json layers = nlohmann::json::object();
  for (const auto& [layer, stalls] : run.stall_ms) {
    layers[std::to_string(layer)] = {{"stall_ms_p50", Percentile(stalls, 0.5)},
                                     {"stall_ms_p99", Percentile(stalls, 0.99)}};
  }
  return {{"rows", run.rows},
          {"wrong_rows", run.wrong_rows},
          {"steps", run.steps},
          {"stall_ms", run.TotalStallMs()},
          {"layers", layers}};
}

nlohmann::json PairFigures(const Pair& pair) {
  return {{"ahead", RunFigures(pair.ahead)}, {"needed", RunFigures(pair.needed)}};
}

}  // namespace

nlohmann::json Figures(const Measured& measured) {
  const Pair &prefill = measured.prefill, &decode = measured.decode;
  uint64_t rows = 0;
  uint64_t wrong = 0;
  for (const RowFigures* run : {&prefill.ahead, &prefill.needed, &decode.ahead, &decode.needed}) {
    rows += run->rows;
    wrong += run->wrong_rows;
  }
  // Only when rows are fetched as needed is all of their way inside the stall.
  const double needed_ms = prefill.needed.TotalStallMs() + decode.needed.TotalStallMs();
  const auto needed_rows = static_cast<double>(prefill.needed.rows + decode.needed.rows);
  return {{"rows", rows},
          {"bytes", rows * measured.row_bytes},
          {"wrong_rows", wrong},
          {"rows_per_s", needed_rows / (needed_ms * 1e-3)},
          {"stall_ms_ahead", prefill.ahead.TotalStallMs() + decode.ahead.TotalStallMs()},
          {"stall_ms_needed", needed_ms},
          {"ppl_memory", measured.ppl_memory},
          {"ppl_zeroed", measured.ppl_zeroed},
          {"ppl_without", measured.ppl_without},
          {"logits_compared", measured.logits_compared},
          {"logits_equal", measured.logits_compared > 0 && measured.logits_differ == 0},
          {"prefill", PairFigures(prefill)},
          {"decode", PairFigures(decode)}};
}

std::string Summary(const Measured& measured, const nlohmann::json& figures) {
  return absl::StrCat(
      "Ahead: asked for as soon as the bytes are known (prefill: when the window before begins;\n"
      "decode: when the step begins). Needed: asked for when the model is at that layer.\n",
      absl::StrFormat("prefill: %d windows of held-out text; median\n",
                      measured.prefill.ahead.steps),
      LayersText(measured.prefill),
      absl::StrFormat("decode: %d steps, a byte each but the first; median\n",
                      measured.decode.ahead.steps),
      LayersText(measured.decode),
      absl::StrFormat(
          "perplexity of %d bytes of held-out text: %.3f with memory, %.3f its twin without, "
          "%.2f with tables of zeros\n",
          measured.bytes_read, measured.ppl_memory, measured.ppl_without, measured.ppl_zeroed),
      absl::StrFormat("logits by rows of the servers and of the checkpoint: %d positions, %d of "
                      "them not the same bits\n",
                      measured.logits_compared, measured.logits_differ),
      absl::StrFormat(
          "all: %d rows, %.1f MB, %.2f Mrows/s while a layer waited for them (fetched when "
          "needed)\n"
          "     waited %.1f ms in all when fetched ahead, %.1f ms when fetched as needed\n"
          "     every row compared with the checkpoint's: %d wrong\n",
          figures["rows"].get<uint64_t>(),
          static_cast<double>(figures["bytes"].get<uint64_t>()) * 1e-6,
          figures["rows_per_s"].get<double>() * 1e-6, figures["stall_ms_ahead"].get<double>(),
          figures["stall_ms_needed"].get<double>(), figures["wrong_rows"].get<uint64_t>()));
}

}  // namespace engram::demo

#include "deploy/sizing/step_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace engram::sizing {
namespace {

// Adds what the layer waits for rows that are there at `arrive_s`.
void Wait(StepTime& step, LayerWait wait) {
  const double stall = wait.arrive_s - wait.due_s;
  wait.stall_s = stall < kLeastStallSeconds ? 0 : stall;
  step.stall_s += wait.stall_s;
  step.layers.push_back(wait);
}

StageTimes Behind(const StageTimes& first, const StageTimes& then) {
  StageTimes both = then;
  for (size_t i = 0; i < both.seconds.size(); ++i) both.seconds[i] += first.seconds[i];
  return both;
}

void Finish(StepTime& step, const StageTimes& all) {
  step.step_s = std::max(step.nominal_s + step.stall_s, all[all.longest()]);
}

}  // namespace

double LayerLoad::RequestsOfBusiest() const {
  return std::max(1.0, std::ceil(wire_rows * largest_share / static_cast<double>(kRowsPerRequest)));
}

const char* NameOf(Stage stage) {
  switch (stage) {
    case Stage::kServer:
      return "server CPU";
    case Stage::kServerLink:
      return "server link";
    case Stage::kClientLink:
      return "client link";
    case Stage::kClient:
      return "client CPU";
  }
  return "";
}

double StageTimes::sum() const { return std::accumulate(seconds.begin(), seconds.end(), 0.0); }

Stage StageTimes::longest() const {
  return static_cast<Stage>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin());
}

StageTimes StagesOf(const LayerLoad& load, const Costs& costs, const Network& network,
                    uint32_t row_bytes, const OthersLoad& others) {
  const double busiest_rows = load.wire_rows * load.largest_share;
  const double overlap_rows = std::max(1.0, kOverlapBytes / row_bytes);
  StageTimes stages;
  stages[Stage::kServer] =
      costs.ServerSeconds(load.RequestsOfBusiest(), busiest_rows) / (1 - others.cpu);
  stages[Stage::kServerLink] = network.Seconds(busiest_rows * row_bytes) / (1 - others.link);
  stages[Stage::kClientLink] = network.Seconds(load.wire_rows * row_bytes);
  // What is there twice is copied by the client, which costs it as much as a row that came.
  stages[Stage::kClient] = costs.ClientSeconds(load.Requests(), load.rows);
  stages.apart = std::min(1.0, overlap_rows / std::max(1.0, busiest_rows));
  return stages;
}

double FetchSeconds(const StageTimes& stages, const Costs& costs, const Network& network,
                    const StageTimes& before) {
  const StageTimes all = Behind(before, stages);
  const Stage longest = all.longest();
  return (costs.lookup_us + network.rtt_us) * 1e-6 + all[longest] +
         stages.apart * (stages.sum() - stages[longest]);
}

StepTime PredictNeeded(const StepShape& shape, const std::vector<LayerStages>& layers,
                       const Costs& costs, const Network& network) {
  StepTime step{shape.step_s(), 0, 0, {}};
  StageTimes all;
  for (const auto& [layer, stages] : layers) {
    const double due = shape.LayerBegins(layer) + step.stall_s;
    const double fetch = FetchSeconds(stages, costs, network);
    Wait(step, {layer, fetch, due, due + fetch, 0, stages.longest()});
    all = Behind(all, stages);
  }
  Finish(step, all);
  return step;
}

StepTime PredictAhead(const StepShape& shape, const std::vector<LayerStages>& layers,
                      const Costs& costs, const Network& network) {
  StepTime step{shape.step_s(), 0, 0, {}};
  StageTimes before;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto& [layer, stages] = layers[i];
    const double due = shape.LayerBegins(layer) + step.stall_s;
    double fetch = FetchSeconds(stages, costs, network, before);
    if (i + 1 < layers.size()) fetch += layers[i + 1].stages.apart * layers[i + 1].stages.sum();
    before = Behind(before, stages);
    Wait(step, {layer, fetch, due, fetch - shape.known_ahead_s, 0, before.longest()});
  }
  Finish(step, before);
  return step;
}

}  // namespace engram::sizing

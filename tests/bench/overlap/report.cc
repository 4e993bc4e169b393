#include "tests/bench/overlap/report.h"

#include "absl/strings/str_cat.h"
#include "tests/bench/overlap/overhead.h"
#include "tests/bench/statistics.h"

namespace engram::bench {
namespace {

using nlohmann::json;

double Us(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

double Ms(Clock::duration time) { return Us(time) / 1000; }

using Runs = std::vector<std::vector<StepRecord>>;

// A run's figure is the mean over its steps: rare long waits count as much as they last.
std::vector<double> StepMsByRound(const Runs& runs) {
  std::vector<double> by_round;
  for (const std::vector<StepRecord>& run : runs) {
    double sum = 0;
    for (const StepRecord& step : run) sum += Ms(step.length());
    by_round.push_back(sum / static_cast<double>(run.size()));
  }
  return by_round;
}

// A value for every step.
template <typename Value>
std::vector<double> OfAllSteps(const Runs& runs, Value value) {
  std::vector<double> values;
  for (const auto& run : runs) {
    for (const StepRecord& step : run) values.push_back(value(step));
  }
  return values;
}

// {"1": us, "14": us}
json StallPercentile(const Measurement& measurement, Variant variant, double share) {
  json by_layer;
  for (size_t table = 0; table < measurement.table_layers.size(); ++table) {
    const std::vector<double> stalls =
        OfAllSteps(measurement.runs.at(variant),
                   [&](const StepRecord& step) { return Us(step.tables[table].stall); });
    by_layer[absl::StrCat(measurement.table_layers[table])] = Percentile(stalls, share);
  }
  return by_layer;
}

void AddGoals(const Measurement& measurement, json& report) {
  const Shape& shape = measurement.shape;
  report["goal"] = shape.goal.has_value() ? json(*shape.goal) : json(nullptr);
  bool met = !shape.goal.has_value() || report["overhead_vs_local"] <= *shape.goal;
  for (const auto& [layer, goal_us] : shape.stall_goal_us_p99) {
    const std::string key = absl::StrCat(layer);
    report["stall_goal_us_p99"][key] = goal_us;
    met = met && report["stall_us_p99"].value(key, 0.0) <= goal_us;
  }
  if (shape.goal.has_value() || !shape.stall_goal_us_p99.empty()) report["goal_met"] = met;
}

void AddStalls(const Measurement& measurement, json& report) {
  for (const auto& [share, name] :
       {std::pair(0.5, "stall_us_p50"), std::pair(0.99, "stall_us_p99")}) {
    report[name] = StallPercentile(measurement, Variant::kAhead, share);
    for (const Variant variant : {Variant::kLocal, Variant::kNeeded}) {
      if (measurement.runs.count(variant) == 0) continue;
      report[NameOf(variant)][name] = StallPercentile(measurement, variant, share);
    }
  }
}

}  // namespace

json ReportOf(const Measurement& measurement) {
  const Shape& shape = measurement.shape;
  json report = {{"shape", shape.name},
                 {"sequences", shape.sequences},
                 {"tokens", shape.tokens()},
                 {"layers", shape.layers.size()},
                 {"nominal_step_ms", Ms(shape.step())},
                 {"known_ahead_ms", Ms(shape.known_ahead)},
                 {"steps", shape.steps},
                 {"rounds", shape.rounds},
                 {"rows_per_step", measurement.rows_per_step},
                 {"bytes_per_step", measurement.bytes_per_step},
                 {"failed", measurement.failed},
                 {"wrong_rows", measurement.wrong_rows},
                 {"checked_rows", measurement.checked_rows},
                 {"steal_share", measurement.disturbance.steal},
                 {"foreign_share", measurement.disturbance.foreign}};
  if (measurement.failed > 0) report["first_failure"] = measurement.first_failure;
  std::map<Variant, std::vector<double>> step_ms;
  for (const auto& [variant, runs] : measurement.runs) {
    step_ms[variant] = StepMsByRound(runs);
    report["step_ms"][NameOf(variant)] = Median(step_ms[variant]);
  }
  const Overhead ahead = OverheadOf(step_ms[Variant::kAhead], step_ms[Variant::kLocal]);
  report["overhead_vs_local"] = ahead.value;
  report["overhead_ci95"] = {ahead.low, ahead.high};
  if (step_ms.count(Variant::kNeeded) > 0) {
    const Overhead needed = OverheadOf(step_ms[Variant::kNeeded], step_ms[Variant::kLocal]);
    report["needed"]["overhead_vs_local"] = needed.value;
    report["needed"]["overhead_ci95"] = {needed.low, needed.high};
  }
  AddStalls(measurement, report);
  AddGoals(measurement, report);
  for (const Variant variant : {Variant::kLocal, Variant::kAhead}) {
    report["asking_us_p50"][NameOf(variant)] = Median(OfAllSteps(
        measurement.runs.at(variant), [](const StepRecord& step) { return Us(step.asking); }));
  }
  const std::vector<double> late =
      OfAllSteps(measurement.runs.at(Variant::kAhead),
                 [](const StepRecord& step) { return Us(step.woke_late); });
  report["worker_woke_late_us"] = {{"p50", Median(late)}, {"p99", Percentile(late, 0.99)}};
  return report;
}

}  // namespace engram::bench

// simulate: what a fleet does under load, and when servers go.
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "deploy/engramctl/sizing_flags.h"
#include "deploy/sizing/simulation.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using sizing::Arrivals;
using sizing::Scenario;
using sizing::SimulationResult;

struct SimulateFlags {
  TableFlags table;
  StepFlags step;
  CostFlags costs;
  Scenario scenario;
  sizing::WorkerGroup workers;
  std::string arrivals = "steps";
  std::vector<double> rates;  // lookups/s of all workers
  std::vector<double> loads;  // of what the fleet can do
  uint32_t prefill_workers = 0;
  double hedge_after_us = 1000;
  double timeout_ms = 1000;
  double quota_period_ms = sizing::kQuotaPeriodSeconds * 1e3;
  double quota_carry_ms = sizing::kQuotaCarrySeconds * 1e3;
  double slice_ms = 0;
  double lose_at_s = -1;
  uint32_t lose_server = 0;
  std::string lose_how = "silent";
  double update_at_s = -1;
  double restart_s = 1;
  CLI::Option* lose = nullptr;
  CLI::Option* update = nullptr;
  bool json = false;
};

absl::StatusOr<Arrivals> ArrivalsOf(const std::string& name) {
  if (name == "steps") return Arrivals::kSteps;
  if (name == "even") return Arrivals::kEven;
  if (name == "poisson") return Arrivals::kPoisson;
  return absl::InvalidArgumentError(
      absl::StrCat("--arrivals ", name, " is not known: steps, even or poisson"));
}

absl::StatusOr<Scenario> ScenarioOf(const SimulateFlags& flags, const SizedTable& table) {
  Scenario scenario = flags.scenario;
  scenario.row_bytes = table.row_bytes;
  sizing::WorkerGroup workers = flags.workers;
  ASSIGN_OR_RETURN(workers.shape, StepOf(flags.step));
  ASSIGN_OR_RETURN(workers.arrivals, ArrivalsOf(flags.arrivals));
  scenario.groups = {workers};
  if (flags.prefill_workers > 0) {
    sizing::WorkerGroup prefill{flags.prefill_workers, {}, Arrivals::kSteps, 0, 0};
    ASSIGN_OR_RETURN(prefill.shape, sizing::FindStepShape("prefill-8192-ahead"));
    scenario.groups.push_back(std::move(prefill));
  }
  scenario.costs = flags.costs.Take();
  scenario.network = flags.costs.network;
  scenario.timeout_s = flags.timeout_ms * 1e-3;
  scenario.quota_period_s = flags.quota_period_ms * 1e-3;
  scenario.quota_carry_s = flags.quota_carry_ms * 1e-3;
  scenario.slice_s = flags.slice_ms * 1e-3;
  if (!(flags.hedge_after_us >= 0 && flags.hedge_after_us <= 1e9)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--hedge-after-us ", flags.hedge_after_us, " is not between 0 and 1e9"));
  }
  scenario.hedge.after_least = static_cast<sizing::Nanos>(flags.hedge_after_us * 1e3);
  if (flags.lose->count() > 0) {
    if (flags.lose_how != "silent" && flags.lose_how != "closed") {
      return absl::InvalidArgumentError(
          absl::StrCat("--lose-how ", flags.lose_how, " is not known: silent or closed"));
    }
    scenario.lost = {flags.lose_at_s, flags.lose_how == "silent", flags.lose_server};
  }
  if (flags.update->count() > 0) scenario.update = {flags.update_at_s, flags.restart_s};
  return scenario;
}

// The rates to simulate, 0: that of the workers' steps.
absl::StatusOr<std::vector<double>> RatesOf(const SimulateFlags& flags, double capacity) {
  if (!flags.rates.empty() && !flags.loads.empty()) {
    return absl::InvalidArgumentError("--rate and --load both say how much is asked: give one");
  }
  std::vector<double> rates = flags.rates;
  for (const double load : flags.loads) rates.push_back(load * capacity);
  for (const double rate : rates) {
    if (rate > 0 && rate <= 1e9) continue;
    return absl::InvalidArgumentError(absl::StrCat(flags.rates.empty() ? "--load" : "--rate",
                                                   " is ", rate,
                                                   " lookups/s: not above 0 and at "
                                                   "most 1e9"));
  }
  if (rates.empty()) rates.push_back(flags.workers.lookups_per_s);
  return rates;
}

Json TimesJson(const sizing::LatencyHistogram& times) {
  const auto us = [](int64_t ns) { return static_cast<double>(ns) * 1e-3; };
  return {{"mean_us", times.mean_ns() * 1e-3},
          {"p50_us", us(times.Percentile(0.50))},
          {"p99_us", us(times.Percentile(0.99))},
          {"p999_us", us(times.Percentile(0.999))},
          {"max_us", us(times.max_ns())}};
}

Json RunJson(const SimulationResult& result) {
  Json incast = TimesJson(result.incast);
  incast["max_bytes"] = result.max_incast_bytes;
  Json timeline = Json::array();
  for (const sizing::TimeSlice& slice : result.timeline) {
    timeline.push_back({{"at_s", slice.at_s},
                        {"done", slice.done},
                        {"failed", slice.failed},
                        {"p99_us", slice.p99_us}});
  }
  Json json = {
      {"offered_per_s", result.offered_per_s},
      {"done_per_s", result.done_per_s},
      {"failed", result.failed},
      {"lookups", TimesJson(result.latency)},
      {"server_queue", TimesJson(result.server_queue)},
      {"incast", std::move(incast)},
      {"server_utilisation", {{"mean", result.mean_utilisation}, {"max", result.max_utilisation}}},
      {"requests", result.requests},
      {"hedges", result.hedges},
      {"hedges_won", result.hedges_won},
      {"retries", result.retries},
      {"ejections", result.ejections},
      {"events", result.events}};
  if (!timeline.empty()) json["timeline"] = std::move(timeline);
  return json;
}

Json FleetJsonOf(const Scenario& scenario) {
  uint64_t workers = 0;
  for (const sizing::WorkerGroup& group : scenario.groups) workers += group.workers;
  return {{"shards", scenario.shards},
          {"replicas", scenario.replicas},
          {"servers", scenario.servers()},
          {"cores", scenario.cores},
          {"cpu_quota", scenario.cpu_quota},
          {"wake_us", scenario.wake_us},
          {"workers", workers},
          {"hedge_share", scenario.hedge.share},
          {"seconds", scenario.seconds},
          {"seed", scenario.seed}};
}

std::string SimulationText(const Json& json) {
  std::string text = absl::StrFormat(
      "fleet        %d servers, %d workers; %.4g lookups/s if nothing waited (%s)\n"
      "  asked/s    done/s   failed   p50 ms   p99 ms   busy    hedged   incast p99 us\n",
      json["fleet"]["servers"].get<uint32_t>(), json["fleet"]["workers"].get<uint64_t>(),
      json["capacity"]["lookups_per_s"].get<double>(),
      json["capacity"]["bound"].get<std::string>());
  for (const Json& run : json["runs"]) {
    absl::StrAppendFormat(
        &text, "%9.4g %9.4g %8d %8.3f %8.3f %5.0f %% %7.2f %% %10.1f\n",
        run["offered_per_s"].get<double>(), run["done_per_s"].get<double>(),
        run["failed"].get<uint64_t>(), run["lookups"]["p50_us"].get<double>() * 1e-3,
        run["lookups"]["p99_us"].get<double>() * 1e-3,
        100 * run["server_utilisation"]["mean"].get<double>(),
        100 * run["hedges"].get<double>() / std::max(1.0, run["requests"].get<double>()),
        run["incast"]["p99_us"].get<double>());
  }
  return text;
}

absl::Status SimulateFleet(const SimulateFlags& flags) {
  ASSIGN_OR_RETURN(const SizedTable table, TableOf(flags.table));
  ASSIGN_OR_RETURN(Scenario scenario, ScenarioOf(flags, table));
  ASSIGN_OR_RETURN(const sizing::Capacity capacity, CapacityOf(table.geometry, scenario));
  ASSIGN_OR_RETURN(const std::vector<double> rates, RatesOf(flags, capacity.lookups_per_s));
  Json runs = Json::array();
  double saturation = 0;
  for (const double rate : rates) {
    scenario.groups[0].lookups_per_s = rate;
    ASSIGN_OR_RETURN(const SimulationResult result, Simulate(table.geometry, scenario));
    saturation = std::max(saturation, result.done_per_s);
    runs.push_back(RunJson(result));
  }
  const Json json = {
      {"table", TableJson(table)},
      {"step", StepJson(scenario.groups[0].shape)},
      {"fleet", FleetJsonOf(scenario)},
      {"costs", CostsJson(scenario.costs, scenario.network)},
      {"capacity", {{"lookups_per_s", capacity.lookups_per_s}, {"bound", capacity.bound}}},
      {"most_done_per_s", saturation},
      {"runs", std::move(runs)}};
  if (flags.json) {
    PrintJson(json);
  } else {
    std::cout << SimulationText(json) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace

void AddSimulate(CLI::App& app, Command& run) {
  auto flags = std::make_shared<SimulateFlags>();
  CLI::App* command = app.add_subcommand(
      "simulate", "Says what a fleet does under load, by discrete events; nothing is started");
  const auto add = [&](const char* name, auto& value, const char* what) {
    return command->add_option(name, value, what)->capture_default_str();
  };
  Scenario& scenario = flags->scenario;
  scenario.shards = 8;
  scenario.replicas = 2;
  flags->workers.workers = 64;
  AddTableFlags(command, flags->table);
  AddStepFlags(command, flags->step);
  add("--workers", flags->workers.workers, "Clients");
  add("--prefill-workers", flags->prefill_workers,
      "Clients beside them that run prefill-8192-ahead; their rows come after decode's");
  add("--arrivals", flags->arrivals,
      "steps: a worker asks for all layers at once; even or poisson: for one after the other");
  command
      ->add_option("--rate", flags->rates,
                   "Lookups/s of all --workers (one layer's rows each), with commas: a run each "
                   "(default: steps follow each other)")
      ->delimiter(',');
  command->add_option("--load", flags->loads, "The same as shares of what the fleet can do")
      ->delimiter(',');
  command->add_option("--wire-share", flags->workers.wire_share,
                      "Of the rows asked for, which travel (default: by the step, SIZING.md)");
  add("--shards", scenario.shards, "Equal ones");
  add("--replicas", scenario.replicas, "Servers of each shard");
  add("--cores", scenario.cores, "Serving threads of a server, a core each");
  add("--cpu-quota", scenario.cpu_quota, "CPU limit of a server, in cores; 0: none");
  add("--quota-period-ms", flags->quota_period_ms, "Its period");
  add("--quota-carry-ms", flags->quota_carry_ms,
      "Of it, what the kernel carries over: 1 for each CPU that a server runs on");
  add("--wake-us", scenario.wake_us, "CPU of a server for a request that finds a core asleep");
  add("--service-variation", scenario.service_variation,
      "Standard deviation of an answer's CPU time over its mean");
  add("--hedge-share", scenario.hedge.share, "Second requests per first one; 0: none");
  add("--hedge-after-us", flags->hedge_after_us, "No answer is late before");
  add("--timeout-ms", flags->timeout_ms, "Of a lookup");
  flags->lose = command->add_option("--lose-at-s", flags->lose_at_s,
                                    "A server is lost, so long after measuring has begun");
  add("--lose-server", flags->lose_server, "Its number");
  add("--lose-how", flags->lose_how, "silent: its machine; closed: its process");
  flags->update =
      command->add_option("--update-at-s", flags->update_at_s,
                          "A rolling update: replica 0 of all shards is away, then replica 1");
  add("--restart-s", flags->restart_s, "How long each");
  add("--warm-up-s", scenario.warm_up_s, "Before measuring begins");
  add("--seconds", scenario.seconds, "Measured, of simulated time");
  add("--slice-ms", flags->slice_ms, "A timeline in such slices; 0: none");
  add("--seed", scenario.seed, "The same seed gives the same output");
  AddCostFlags(command, flags->costs);
  command->add_flag("--json", flags->json, "One JSON object instead of text");
  command->callback([flags, &run] { run = [flags] { return SimulateFleet(*flags); }; });
}

}  // namespace engram

// plan: how many servers of what size, and what a model's steps wait for.
#include <cmath>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "deploy/engramctl/sizing_flags.h"
#include "deploy/sizing/fleet_plan.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using sizing::FleetPlan;
using sizing::PlanInput;

constexpr double kMaxPrice = 1e12;

struct PlanFlags {
  TableFlags table;
  StepFlags step;
  CostFlags costs;
  PlanInput input;
  sizing::Prices prices;
  double memory_gib = 256;
  bool json = false;

  bool priced() const { return prices.memory_gib > 0 || prices.core > 0 || prices.server > 0; }
};

absl::Status CheckAmount(const char* flag, double value, double most) {
  if (value >= 0 && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", value, " is not between 0 and ", most));
}

absl::Status CheckAmounts(const PlanFlags& flags) {
  RETURN_IF_ERROR(CheckAmount("--memory-gib", flags.memory_gib, 1 << 20));
  RETURN_IF_ERROR(CheckAmount("--price-memory", flags.prices.memory_gib, kMaxPrice));
  RETURN_IF_ERROR(CheckAmount("--price-core", flags.prices.core, kMaxPrice));
  return CheckAmount("--price-server", flags.prices.server, kMaxPrice);
}

Json InputJson(const PlanInput& input) {
  return {{"memory_bytes", input.memory_bytes},
          {"cores", input.cores},
          {"replicas", input.replicas},
          {"gpu_nodes", input.gpu_nodes},
          {"workers_per_node", input.workers_per_node},
          {"tokens_per_s", input.steps_per_s() * static_cast<double>(input.shape.tokens)},
          {"wire_share", input.wire_share > 0 ? input.wire_share : input.shape.wire_share()},
          {"max_utilisation", input.max_utilisation}};
}

Json LoadJson(const sizing::ServerLoad& load) {
  return {{"requests_per_s", load.requests_per_s},
          {"rows_per_s", load.rows_per_s},
          {"cpu_cores", load.cpu_cores},
          {"gbit_per_s", load.gbit_per_s}};
}

Json FleetJson(const FleetPlan& plan) {
  return {
      {"shards", plan.shards},
      {"replicas", plan.replicas},
      {"servers", plan.servers()},
      {"decided_by", plan.decided_by},
      {"server",
       {{"rows", plan.largest_rows},
        {"memory_bytes", plan.memory_bytes},
        {"cores", plan.cores},
        {"cpu_utilisation", plan.cpu_utilisation},
        {"link_utilisation", plan.link_utilisation},
        {"load", LoadJson(plan.load)},
        {"load_one_replica_lost",
         plan.load_one_lost.has_value() ? LoadJson(*plan.load_one_lost) : Json()}}},
      {"worker", {{"cpu_cores", plan.client_cpu_cores}, {"gbit_per_s", plan.client_gbit_per_s}}}};
}

Json LookupsJson(const FleetPlan& plan) {
  Json layers = Json::array();
  for (const auto& [load, servers_per_token] : plan.layers) {
    layers.push_back({{"layer", load.layer},
                      {"rows", load.rows},
                      {"wire_rows", load.wire_rows},
                      {"servers_per_token", servers_per_token},
                      {"servers", load.servers},
                      {"requests", load.Requests()},
                      {"largest_share", load.largest_share}});
  }
  return layers;
}

Json StepTimeJson(const sizing::StepTime& step) {
  Json layers = Json::array();
  for (const sizing::LayerWait& wait : step.layers) {
    layers.push_back({{"layer", wait.layer},
                      {"fetch_ms", wait.fetch_s * 1e3},
                      {"bound", sizing::NameOf(wait.bound)},
                      {"due_ms", wait.due_s * 1e3},
                      {"in_place_ms", wait.arrive_s * 1e3},
                      {"hides", wait.stall_s == 0},
                      {"stall_ms", wait.stall_s * 1e3}});
  }
  return {{"step_ms", step.step_s * 1e3},
          {"cost_ms", step.cost_s() * 1e3},
          {"cost_share", step.cost_s() / step.nominal_s},
          {"layers", std::move(layers)}};
}

Json CopiesJson(const PlanFlags& flags, const FleetPlan& plan, const SizedTable& table) {
  const sizing::CopiesComparison compared =
      sizing::CompareWithCopies(plan, table.bytes(), flags.input.gpu_nodes, flags.prices);
  Json json = {{"fleet_memory_bytes", compared.fleet_bytes},
               {"copies_memory_bytes", compared.copies_bytes},
               {"memory_ratio", static_cast<double>(compared.fleet_bytes) /
                                    static_cast<double>(compared.copies_bytes)},
               {"fleet_cost", nullptr},
               {"copies_cost", nullptr},
               {"cost_ratio", nullptr}};
  if (!flags.priced()) return json;
  json["fleet_cost"] = compared.fleet_cost;
  json["copies_cost"] = compared.copies_cost;
  if (compared.copies_cost > 0) json["cost_ratio"] = compared.fleet_cost / compared.copies_cost;
  return json;
}

std::string StepText(const char* how, const Json& step) {
  std::string text =
      absl::StrFormat("%-12s %.3f ms a step, %.3f ms (%.2f %%) of them waiting\n", how,
                      step["step_ms"].get<double>(), step["cost_ms"].get<double>(),
                      100 * step["cost_share"].get<double>());
  for (const Json& layer : step["layers"]) {
    absl::StrAppendFormat(&text,
                          "             layer %d: wanted at %.3f ms, there at %.3f: %s (%s)\n",
                          layer["layer"].get<uint32_t>(), layer["due_ms"].get<double>(),
                          layer["in_place_ms"].get<double>(),
                          layer["hides"].get<bool>()
                              ? "hidden"
                              : absl::StrFormat("waits %.3f ms", layer["stall_ms"].get<double>()),
                          layer["bound"].get<std::string>());
  }
  return text;
}

std::string PlanText(const Json& json) {
  const auto gib = [](const Json& bytes) { return bytes.get<double>() / (1 << 30); };
  const Json& fleet = json["fleet"];
  const Json& server = fleet["server"];
  const Json& copies = json["against_copies"];
  std::string text = absl::StrFormat(
      "table        %s, %.2f GiB in rows of %d bytes\n"
      "step         %s: %d tokens, %.2f ms\n"
      "fleet        %d shards x %d replicas = %d servers (%s decides)\n"
      "server       %.2f GiB, %d cores (%.0f %% busy), %.2f Gbit/s (%.0f %% of its link), "
      "%.3g rows/s\n",
      json["table"]["model"].get<std::string>(), gib(json["table"]["bytes"]),
      json["table"]["row_bytes"].get<uint32_t>(), json["step"]["name"].get<std::string>(),
      json["step"]["tokens"].get<uint64_t>(), json["step"]["step_ms"].get<double>(),
      fleet["shards"].get<uint32_t>(), fleet["replicas"].get<uint32_t>(),
      fleet["servers"].get<uint64_t>(), fleet["decided_by"].get<std::string>(),
      gib(server["memory_bytes"]), server["cores"].get<uint32_t>(),
      100 * server["cpu_utilisation"].get<double>(), server["load"]["gbit_per_s"].get<double>(),
      100 * server["link_utilisation"].get<double>(), server["load"]["rows_per_s"].get<double>());
  for (const Json& layer : json["lookups"]) {
    absl::StrAppendFormat(&text,
                          "layer %-6d a token's rows come from %.1f servers, a step's %.0f from "
                          "%.1f\n",
                          layer["layer"].get<uint32_t>(), layer["servers_per_token"].get<double>(),
                          layer["rows"].get<double>(), layer["servers"].get<double>());
  }
  absl::StrAppend(&text, StepText("asked ahead", json["ahead"]),
                  StepText("when needed", json["needed"]));
  absl::StrAppendFormat(&text, "memory       %.1f GiB against %.1f of a copy per GPU node (%.2f)\n",
                        gib(copies["fleet_memory_bytes"]), gib(copies["copies_memory_bytes"]),
                        copies["memory_ratio"].get<double>());
  if (!copies["fleet_cost"].is_null()) {
    absl::StrAppendFormat(&text, "money        %.2f a month against %.2f\n",
                          copies["fleet_cost"].get<double>(), copies["copies_cost"].get<double>());
  }
  return text;
}

absl::Status Plan(const PlanFlags& flags) {
  RETURN_IF_ERROR(CheckAmounts(flags));
  ASSIGN_OR_RETURN(const SizedTable table, TableOf(flags.table));
  PlanInput input = flags.input;
  input.row_bytes = table.row_bytes;
  ASSIGN_OR_RETURN(input.shape, StepOf(flags.step));
  input.costs = flags.costs.Take();
  input.network = flags.costs.network;
  input.memory_bytes = static_cast<uint64_t>(std::llround(flags.memory_gib * (1 << 30)));
  ASSIGN_OR_RETURN(const FleetPlan plan, sizing::PlanFleet(table.geometry, input));
  const Json json = {{"table", TableJson(table)},
                     {"step", StepJson(input.shape)},
                     {"input", InputJson(input)},
                     {"costs", CostsJson(input.costs, input.network)},
                     {"fleet", FleetJson(plan)},
                     {"lookups", LookupsJson(plan)},
                     {"ahead", StepTimeJson(plan.ahead)},
                     {"needed", StepTimeJson(plan.needed)},
                     {"against_copies", CopiesJson(flags, plan, table)}};
  if (flags.json) {
    PrintJson(json);
  } else {
    std::cout << PlanText(json) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& app, Command& run) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand(
      "plan", "Says how many servers a table and its load need, and what steps wait for");
  AddTableFlags(command, flags->table);
  AddStepFlags(command, flags->step);
  const auto add = [&](const char* name, auto& value, const char* what) {
    return command->add_option(name, value, what)->capture_default_str();
  };
  PlanInput& input = flags->input;
  add("--gpu-nodes", input.gpu_nodes, "Machines that run the model");
  add("--workers-per-node", input.workers_per_node, "Clients of each, which run steps");
  command->add_option("--tokens-per-s", input.tokens_per_s,
                      "Of one worker (default: its steps follow each other)");
  add("--memory-gib", flags->memory_gib, "Of a memory node, for one server");
  add("--cores", input.cores, "Of a memory node, for one server");
  add("--replicas", input.replicas, "Servers of each shard");
  command->add_option("--shards", input.shards, "As many (default: the fewest that do)");
  add("--max-utilisation", input.max_utilisation, "Of servers' cores and links");
  command->add_option("--wire-share", input.wire_share,
                      "Of the rows asked for, which travel (default: by the step, SIZING.md)");
  command->add_option("--price-memory", flags->prices.memory_gib, "Of a GiB, a month");
  command->add_option("--price-core", flags->prices.core, "Of a server's core, a month");
  command->add_option("--price-server", flags->prices.server, "Of a server beside those, a month");
  AddCostFlags(command, flags->costs);
  command->add_flag("--json", flags->json, "One JSON object instead of text");
  command->callback([flags, &run] { run = [flags] { return Plan(*flags); }; });
}

}  // namespace engram

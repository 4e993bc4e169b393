#include "deploy/engramctl/sizing_flags.h"

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/synth_model.h"

namespace engram {

void AddTableFlags(CLI::App* command, TableFlags& flags) {
  command->add_option("--checkpoint", flags.checkpoint, "Directory with the table");
  command->add_option("--like", flags.like, "Or a model's table: v41-flash or paper (bf16)");
  command->add_option("--bucket-floor", flags.bucket_floor,
                      "With --like: rows per column at least (default: the real model's)");
}

absl::StatusOr<SizedTable> TableOf(const TableFlags& flags) {
  if (flags.checkpoint.empty() == flags.like.empty()) {
    return absl::InvalidArgumentError(
        "one of --checkpoint and --like says which table: v41-flash or paper");
  }
  if (!flags.checkpoint.empty()) {
    if (flags.bucket_floor.has_value()) {
      return absl::InvalidArgumentError("--bucket-floor is for --like; a checkpoint has its own");
    }
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(flags.checkpoint));
    return SizedTable{checkpoint.config().model, checkpoint.geometry(),
                      checkpoint.layout().row_bytes()};
  }
  SynthModel model = SynthModel::kV41Flash;
  if (flags.like == "paper") {
    model = SynthModel::kPaper;
  } else if (flags.like != "v41-flash") {
    return absl::InvalidArgumentError(
        absl::StrCat("--like ", flags.like, " is not known: v41-flash or paper"));
  }
  ASSIGN_OR_RETURN(Geometry geometry,
                   SynthGeometry(model, flags.bucket_floor.value_or(DefaultBucketFloor(model)),
                                 DefaultCompressedVocab(model)));
  return SizedTable{flags.like, std::move(geometry),
                    SynthLayout(model, ValueType::kBf16).row_bytes()};
}

Json TableJson(const SizedTable& table) {
  return {{"model", table.model},
          {"layers", table.geometry.params().layer_ids},
          {"columns", table.geometry.columns()},
          {"row_bytes", table.row_bytes},
          {"rows", table.geometry.total_rows()},
          {"bytes", table.bytes()}};
}

void AddStepFlags(CLI::App* command, StepFlags& flags) {
  std::string names;
  for (const sizing::StepShape& shape : sizing::NamedStepShapes()) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", shape.name);
  }
  command->add_option("--shape", flags.shape, absl::StrCat("A worker's step: ", names))
      ->capture_default_str();
  command->add_option("--tokens", flags.tokens,
                      "A step of your own: its tokens (with --step-ms or --layers-ms)");
  command->add_option("--step-ms", flags.step_ms,
                      "How long it takes, in --model-layers equal ones");
  command->add_option("--model-layers", flags.model_layers, "For --step-ms")->capture_default_str();
  command->add_option("--layers-ms", flags.layers_ms, "How long each layer takes, with commas")
      ->delimiter(',');
  command->add_option("--ahead-ms", flags.ahead_ms,
                      "Of a step of your own: its token ids are known so long before it");
  command->add_flag("--prefill", flags.prefill,
                    "A step of your own is a chunk of text: what repeats within it travels once");
}

absl::StatusOr<sizing::StepShape> StepOf(const StepFlags& flags) {
  const bool timed = flags.step_ms != 0 || !flags.layers_ms.empty();
  if (flags.tokens == 0 && !timed) {
    if (flags.ahead_ms != 0 || flags.prefill) {
      return absl::InvalidArgumentError("--ahead-ms and --prefill are for a step of your own");
    }
    return sizing::FindStepShape(flags.shape);
  }
  if (flags.tokens == 0 || (flags.step_ms != 0) == !flags.layers_ms.empty()) {
    return absl::InvalidArgumentError(
        "a step of your own needs --tokens and one of --step-ms and --layers-ms");
  }
  if (flags.layers_ms.empty() && (flags.model_layers == 0 || flags.model_layers > 65536)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model-layers ", flags.model_layers, " is not between 1 and 65536"));
  }
  sizing::StepShape shape;
  shape.name = "custom";
  shape.tokens = flags.tokens;
  shape.layers_s = sizing::EqualLayers(flags.step_ms * 1e-3, flags.model_layers);
  if (!flags.layers_ms.empty()) shape.layers_s.clear();
  for (const double ms : flags.layers_ms) shape.layers_s.push_back(ms * 1e-3);
  shape.known_ahead_s = flags.ahead_ms * 1e-3;
  shape.prefill = flags.prefill;
  return shape;
}

Json StepJson(const sizing::StepShape& shape) {
  return {{"name", shape.name},
          {"tokens", shape.tokens},
          {"layers", shape.layers_s.size()},
          {"step_ms", shape.step_s() * 1e3},
          {"known_ahead_ms", shape.known_ahead_s * 1e3},
          {"prefill", shape.prefill}};
}

sizing::Costs CostFlags::Take() const {
  sizing::Costs taken = tls ? costs.WithTls() : costs;
  if (sleeping && lookup_us->count() == 0) taken.lookup_us = sizing::kSleepingLookupUs;
  return taken;
}

void AddCostFlags(CLI::App* command, CostFlags& flags) {
  constexpr char kGroup[] = "What things cost (defaults: measured, deploy/SIZING.md)";
  const auto add = [&](const char* name, double& value, const char* what) {
    return command->add_option(name, value, what)->group(kGroup)->capture_default_str();
  };
  add("--request-us", flags.costs.server_request_us, "CPU of a server for a request");
  add("--row-ns", flags.costs.server_row_ns, "CPU of a server for a row");
  add("--client-request-us", flags.costs.client_request_us, "CPU of a client for a request");
  add("--client-row-ns", flags.costs.client_row_ns, "CPU of a client for a row");
  flags.lookup_us = add("--lookup-us", flags.costs.lookup_us,
                        "What a lookup takes beside, between threads and through kernels");
  add("--nic-gbit", flags.network.nic_gbit, "Gbit/s of each machine, each way");
  add("--rtt-us", flags.network.rtt_us, "Round trip of the network between machines");
  command
      ->add_flag("--tls", flags.tls, "mTLS: CPU times 2.6 in servers, 3.2 in clients, of the above")
      ->group(kGroup);
  command
      ->add_flag("--sleeping", flags.sleeping,
                 "Threads sleep instead of polling: another default of --lookup-us")
      ->group(kGroup);
}

Json CostsJson(const sizing::Costs& costs, const sizing::Network& network) {
  return {{"request_us", costs.server_request_us},
          {"row_ns", costs.server_row_ns},
          {"client_request_us", costs.client_request_us},
          {"client_row_ns", costs.client_row_ns},
          {"lookup_us", costs.lookup_us},
          {"nic_gbit", network.nic_gbit},
          {"rtt_us", network.rtt_us}};
}

}  // namespace engram

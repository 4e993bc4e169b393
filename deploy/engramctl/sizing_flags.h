// The flags that `plan` and `simulate` share: which table, which step, what things cost.
#ifndef ENGRAM_DEPLOY_ENGRAMCTL_SIZING_FLAGS_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_SIZING_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/engramctl/output.h"
#include "deploy/sizing/costs.h"
#include "deploy/sizing/step_shape.h"
#include "proto/geometry.h"

namespace engram {

// The table: that of a checkpoint, or of a model as `synth --like` makes it.
struct TableFlags {
  std::string checkpoint;
  std::string like;
  std::optional<uint64_t> bucket_floor;
};

struct SizedTable {
  std::string model;
  Geometry geometry;
  uint32_t row_bytes = 0;

  uint64_t bytes() const { return geometry.total_rows() * row_bytes; }
};

void AddTableFlags(CLI::App* command, TableFlags& flags);
// InvalidArgument: none or both of the two, an unknown model, a bucket floor out of bounds. The
// codes of Checkpoint::Open.
absl::StatusOr<SizedTable> TableOf(const TableFlags& flags);
Json TableJson(const SizedTable& table);

// A step: a named one, or one of your own.
struct StepFlags {
  std::string shape = "decode-64-12ms";
  uint64_t tokens = 0;
  double step_ms = 0;
  std::vector<double> layers_ms;
  uint32_t model_layers = 40;
  double ahead_ms = 0;
  bool prefill = false;
};

void AddStepFlags(CLI::App* command, StepFlags& flags);
// InvalidArgument: an unknown name, or a step of your own that is not whole.
absl::StatusOr<sizing::StepShape> StepOf(const StepFlags& flags);
Json StepJson(const sizing::StepShape& shape);

struct CostFlags {
  sizing::Costs costs;
  sizing::Network network;
  bool tls = false;
  bool sleeping = false;
  CLI::Option* lookup_us = nullptr;

  // With TLS and sleeping threads where those were asked for.
  sizing::Costs Take() const;
};

void AddCostFlags(CLI::App* command, CostFlags& flags);
Json CostsJson(const sizing::Costs& costs, const sizing::Network& network);

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_SIZING_FLAGS_H_

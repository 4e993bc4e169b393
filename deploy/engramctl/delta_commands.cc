// delta: what changes a table.
#include <memory>

#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/status_macros.h"
#include "storage/delta.h"

namespace engram {
namespace {

absl::Status Delta(const DeltaOptions& options) {
  ASSIGN_OR_RETURN(const DeltaHeader header, WriteDelta(options));
  PrintJson({{"base", ToHex(header.base)},
             {"target", ToHex(header.target)},
             {"rows", header.changed()},
             {"bytes", header.changed() * header.record_bytes()}});
  return absl::OkStatus();
}

}  // namespace

void AddDelta(CLI::App& app, Command& run) {
  auto options = std::make_shared<DeltaOptions>();
  options->log = PrintLog;
  CLI::App* command = app.add_subcommand("delta", "Writes the rows that differ between two tables");
  command->add_option("--from", options->from, "Checkpoint directory that servers hold")
      ->required();
  command->add_option("--to", options->to, "Checkpoint directory of the target")->required();
  command->add_option("--out", options->out, "File of the delta")->required();
  command->callback([=, &run] { run = [=] { return Delta(*options); }; });
}

}  // namespace engram

// synth: writes checkpoints with made-up tables.
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "deploy/engramctl/commands.h"
#include "storage/synth.h"

namespace engram {
namespace {

struct Flags {
  SynthOptions options;
  std::string like;
  std::string dtype;
};

absl::Status Synth(const Flags& flags) {
  SynthOptions options = flags.options;
  if (flags.like == "paper") {
    options.model = SynthModel::kPaper;
  } else if (flags.like != "v41-flash") {
    return absl::InvalidArgumentError(
        absl::StrCat("--like ", flags.like, " is not known: v41-flash or paper"));
  }
  if (flags.dtype.empty()) return Synthesize(options);
  static const std::map<std::string, ValueType> kTypes = {
      {"bf16", ValueType::kBf16}, {"f16", ValueType::kF16}, {"f32", ValueType::kF32}};
  const auto type = kTypes.find(flags.dtype);
  if (type == kTypes.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--dtype ", flags.dtype, " is not known: bf16, f16 or f32"));
  }
  if (options.model != SynthModel::kPaper) {
    return absl::InvalidArgumentError("--dtype is for --like paper; v41-flash is fp8");
  }
  options.paper_values = type->second;
  return Synthesize(options);
}

}  // namespace

void AddSynth(CLI::App& app, Command& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("synth", "Writes a checkpoint with made-up tables");
  command->add_option("--out", flags->options.out, "Directory to write")->required();
  command->add_option("--like", flags->like, "Layout: v41-flash or paper")->required();
  command->add_option("--bucket-floor", flags->options.bucket_floor,
                      "Rows per column at least (default: the real model's)");
  command->add_option("--seed", flags->options.seed, "Of the row bytes")->capture_default_str();
  command->add_option("--tokenizer", flags->options.tokenizer,
                      "tokenizer.json to copy (v41-flash: padded to the model's 129,280 ids)");
  command->add_option("--dtype", flags->dtype, "Of paper's values: bf16 (default), f16 or f32");
  command->add_flag("--sparse", flags->options.sparse,
                    "Holes for all rows but those at column borders and every 2^19th");
  command->callback([flags, &run] { run = [flags] { return Synth(*flags); }; });
}

}  // namespace engram

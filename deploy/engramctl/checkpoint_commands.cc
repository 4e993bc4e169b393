// synth, digest, inspect, token-map: what needs no server.
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/synth.h"
#include "storage/table_digest.h"
#include "storage/tokenizer.h"

namespace engram {
namespace {

absl::Status Digest(const std::string& directory, const std::string& out) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const Sidecar sidecar, ComputeSidecar(checkpoint, 0, PrintLog));
  RETURN_IF_ERROR(WriteSidecar(out.empty() ? checkpoint.sidecar_path() : out, sidecar));
  PrintJson({{"digest", ToHex(sidecar.digest)}});
  return absl::OkStatus();
}

Json TensorJson(const TensorPlace& tensor) {
  return {{"name", tensor.name},   {"file", tensor.file},          {"dtype", tensor.dtype},
          {"shape", tensor.shape}, {"offset", tensor.file_offset}, {"bytes", tensor.bytes}};
}

absl::StatusOr<Json> InspectJson(const Checkpoint& checkpoint) {
  const Geometry& geometry = checkpoint.geometry();
  const GeometryParams& params = geometry.params();
  const RowLayout& layout = checkpoint.layout();
  Json digest;
  const absl::StatusOr<Sidecar> sidecar = ReadSidecar(checkpoint.sidecar_path());
  if (sidecar.ok()) {
    digest = ToHex(sidecar->digest);
  } else if (!absl::IsNotFound(sidecar.status())) {
    return sidecar.status();
  }
  Json tensors = Json::array();
  for (const LayerTensors& layer : checkpoint.layers()) {
    tensors.push_back(TensorJson(layer.weight));
    if (layer.scale.has_value()) tensors.push_back(TensorJson(*layer.scale));
  }
  Json json = {{"model", checkpoint.config().model},
               {"geometry",
                {{"layer_ids", params.layer_ids},
                 {"max_ngram_size", params.max_ngram},
                 {"heads", params.heads},
                 {"columns", params.columns()},
                 {"bucket_floor_per_order", params.bucket_floors},
                 {"seed", params.seed},
                 {"compressed_vocab_size", params.compressed_vocab},
                 {"pad_token_id", params.pad_token}}}};
  json.update(DerivedJson(geometry));
  json.update(
      Json{{"row",
            {{"value_type", std::string(ValueTypeName(layout.value_type))},
             {"values", layout.values},
             {"scale_type", std::string(ScaleTypeName(layout.scale_type))},
             {"scales", layout.scales}}},
           {"row_bytes", layout.row_bytes()},
           {"rows", geometry.total_rows()},
           {"table_bytes", geometry.total_rows() * layout.row_bytes()},
           {"tensors", std::move(tensors)},
           {"tokens",
            checkpoint.token_map().has_value() ? Json(checkpoint.token_map()->tokens()) : Json()},
           {"digest", std::move(digest)}});
  return json;
}

void PrintInspect(const Checkpoint& checkpoint, const Json& json) {
  const Geometry& geometry = checkpoint.geometry();
  const uint64_t bytes = json["table_bytes"];
  std::cout << absl::StrFormat("model        %s\n", checkpoint.config().model)
            << absl::StrFormat("columns      %d a layer (orders 2..%d, %d heads)\n",
                               geometry.columns(), geometry.params().max_ngram,
                               geometry.params().heads)
            << absl::StrFormat(
                   "row          %d bytes (%d %s, %d %s)\n", checkpoint.layout().row_bytes(),
                   checkpoint.layout().values, ValueTypeName(checkpoint.layout().value_type),
                   checkpoint.layout().scales, ScaleTypeName(checkpoint.layout().scale_type))
            << absl::StrFormat("table        %d rows, %d bytes (%.2f GiB)\n", geometry.total_rows(),
                               bytes, static_cast<double>(bytes) / (1 << 30));
  for (const LayerTensors& layer : checkpoint.layers()) {
    std::cout << absl::StrFormat("layer %-6d %s [%s] %s in %s\n", layer.layer, layer.weight.name,
                                 absl::StrJoin(layer.weight.shape, ", "), layer.weight.dtype,
                                 layer.weight.file);
  }
  std::cout << "token map    "
            << (checkpoint.token_map().has_value()
                    ? absl::StrCat(checkpoint.token_map()->tokens(), " tokens -> ",
                                   checkpoint.token_map()->compressed_count())
                    : "none")
            << "\ndigest       "
            << (json["digest"].is_null() ? "unknown (no sidecar; run engramctl digest)"
                                         : json["digest"].get<std::string>())
            << std::endl;
}

absl::Status Inspect(const std::string& directory, bool as_json) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const Json json, InspectJson(checkpoint));
  if (as_json) {
    PrintJson(json);
  } else {
    PrintInspect(checkpoint, json);
  }
  return absl::OkStatus();
}

absl::Status WriteTokenMap(const std::string& tokenizer, const std::string& out) {
  ASSIGN_OR_RETURN(const TokenMap map, BuildTokenMap(tokenizer));
  RETURN_IF_ERROR(WriteFileAtomically(out, map.Serialize()));
  PrintJson({{"tokens", map.tokens()}, {"compressed", map.compressed_count()}});
  return absl::OkStatus();
}

}  // namespace

void AddSynth(CLI::App& app, Command& run) {
  auto options = std::make_shared<SynthOptions>();
  auto like = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("synth", "Writes a checkpoint with made-up tables");
  command->add_option("--out", options->out, "Directory to write")->required();
  command->add_option("--like", *like, "Layout: v41-flash")->required();
  command->add_option("--bucket-floor", options->bucket_floor, "Rows per column at least")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of the row bytes")->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer,
                      "tokenizer.json to copy, padded to the model's 129,280 ids");
  command->callback([options, like, &run] {
    run = [options, like]() -> absl::Status {
      if (*like != "v41-flash") {
        return absl::UnimplementedError(
            absl::StrCat("--like ", *like, ": this version makes the layout v41-flash alone"));
      }
      return SynthesizeV41(*options);
    };
  });
}

void AddDigest(CLI::App& app, Command& run) {
  auto directory = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("digest", "Reads the tables once and writes the sidecar beside them");
  command->add_option("DIR", *directory, "Checkpoint directory")->required();
  command->add_option("--out", *out, "Sidecar file (default: DIR/engram.sidecar)");
  command->callback([=, &run] { run = [=] { return Digest(*directory, *out); }; });
}

void AddInspect(CLI::App& app, Command& run) {
  auto directory = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("inspect", "Says what a checkpoint's tables are");
  command->add_option("DIR", *directory, "Checkpoint directory")->required();
  command->add_flag("--json", *json, "One JSON object instead of text");
  command->callback([=, &run] { run = [=] { return Inspect(*directory, *json); }; });
}

void AddTokenMap(CLI::App& app, Command& run) {
  auto tokenizer = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("token-map", "Writes a tokenizer's token map");
  command->add_option("--tokenizer", *tokenizer, "tokenizer.json")->required();
  command->add_option("--out", *out, "File of little-endian u32, one per token id")->required();
  command->callback([=, &run] { run = [=] { return WriteTokenMap(*tokenizer, *out); }; });
}

}  // namespace engram

// inspect: what a checkpoint's tables are.
#include <algorithm>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/layout_report.h"
#include "deploy/engramctl/output.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"

namespace engram {
namespace {

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
    for (const RowField& field : layer.fields) {
      for (const TensorPiece& piece : field.pieces) tensors.push_back(TensorJson(piece.place));
    }
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

std::string PrimesText(const LayerGeometry& layer) {
  std::vector<uint64_t> primes;
  for (const HashColumn& column : layer.columns) primes.push_back(column.prime);
  const auto [least, most] = std::minmax_element(primes.begin(), primes.end());
  return absl::StrCat(*least, "..", *most);
}

// The tensors of a layer, those in one file of one type together.
std::string TensorsText(const LayerTensors& layer) {
  std::string text;
  for (const RowField& field : layer.fields) {
    const TensorPlace& first = field.pieces.front().place;
    absl::StrAppendFormat(&text, "             %-9s %s", first.dtype, first.name);
    if (field.pieces.size() > 1) absl::StrAppend(&text, " and ", field.pieces.size() - 1, " more");
    absl::StrAppendFormat(&text, " in %s\n", first.file);
  }
  return text;
}

std::string InspectText(const Checkpoint& checkpoint, const Json& json) {
  const Geometry& geometry = checkpoint.geometry();
  const RowLayout& layout = checkpoint.layout();
  const uint64_t bytes = json["table_bytes"];
  const auto gib = [](uint64_t n) { return static_cast<double>(n) / (1 << 30); };
  std::string text = absl::StrFormat(
      "model        %s\n"
      "columns      %d a layer: n-grams of 2 to %d tokens, %d heads each\n"
      "row          %d bytes: %d %s values%s\n"
      "table        %d rows, %.2f GiB (%d bytes)\n",
      checkpoint.config().model, geometry.columns(), geometry.params().max_ngram,
      geometry.params().heads, layout.row_bytes(), layout.values, ValueTypeName(layout.value_type),
      layout.scales == 0
          ? ""
          : absl::StrCat(", ", layout.scales, " ", ScaleTypeName(layout.scale_type), " scales"),
      geometry.total_rows(), gib(bytes), bytes);
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    const LayerGeometry& layer = geometry.layers()[i];
    absl::StrAppendFormat(&text, "layer %-6d %d rows, %.2f GiB; primes %s\n%s", layer.layer_id,
                          layer.rows, gib(layer.rows * layout.row_bytes()), PrimesText(layer),
                          TensorsText(checkpoint.layers()[i]));
  }
  const std::optional<TokenMap>& map = checkpoint.token_map();
  absl::StrAppend(&text, "token map    ",
                  map.has_value() ? absl::StrCat(map->tokens(), " tokens -> ",
                                                 map->compressed_count(), " compressed ids")
                                  : "none: row ids alone can be looked up",
                  "\ndigest       ",
                  json["digest"].is_null()
                      ? absl::StrCat("unknown: run `engramctl digest ", checkpoint.directory(), "`")
                      : json["digest"].get<std::string>(),
                  "\n");
  if (json.contains("layout")) absl::StrAppend(&text, LayoutText(json["layout"]));
  return text;
}

absl::Status Inspect(const std::string& directory, bool as_json, const LayoutFlags& layout) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(Json json, InspectJson(checkpoint));
  if (layout.asked()) {
    ASSIGN_OR_RETURN(json["layout"],
                     LayoutJson(checkpoint.geometry(), checkpoint.layout().row_bytes(), layout));
  }
  if (as_json) {
    PrintJson(json);
  } else {
    std::cout << InspectText(checkpoint, json) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace

void AddInspect(CLI::App& app, Command& run) {
  auto directory = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  auto layout = std::make_shared<LayoutFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Says what a checkpoint's tables are");
  command->add_option("DIR", *directory, "Checkpoint directory")->required();
  command->add_flag("--json", *json, "One JSON object instead of text");
  CLI::Option* shards =
      command
          ->add_option("--shards", layout->shards, "Say what a cut into so many equal shards means")
          ->check(CLI::PositiveNumber);
  command
      ->add_option("--shard-map", layout->shard_map, "The same of a shard map (see engramd --help)")
      ->excludes(shards);
  command->add_option("--batch", layout->batch, "Tokens of a batch, for --shards and --shard-map")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([=, &run] { run = [=] { return Inspect(*directory, *json, *layout); }; });
}

}  // namespace engram

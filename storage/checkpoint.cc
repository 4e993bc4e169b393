#include "storage/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"
#include "storage/safetensors.h"
#include "storage/sidecar.h"
#include "storage/tokenizer.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr uint64_t kMaxIndexBytes = 256 << 20;
constexpr uint32_t kValuesPerScale = 32;
constexpr absl::string_view kIndexFile = "model.safetensors.index.json";
constexpr absl::string_view kWeight = "weight";
constexpr absl::string_view kScale = "scale";

// Which table, and which half of it, a tensor's name means.
struct TableTensor {
  uint32_t layer = 0;
  bool is_scale = false;
};

// Matches `[PREFIX.]layers.L.engram.embed.weight` and `.scale`.
std::optional<TableTensor> ParseTableTensor(absl::string_view name) {
  TableTensor tensor;
  if (absl::ConsumeSuffix(&name, ".engram.embed.scale")) {
    tensor.is_scale = true;
  } else if (!absl::ConsumeSuffix(&name, ".engram.embed.weight")) {
    return std::nullopt;
  }
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return std::nullopt;
  const absl::string_view layer = name.substr(dot + 1);
  absl::string_view prefix = name.substr(0, dot);
  if (!absl::ConsumeSuffix(&prefix, "layers")) return std::nullopt;
  if (!prefix.empty() && !absl::EndsWith(prefix, ".")) return std::nullopt;
  // "01" and "+1" are not how a layer is written: SimpleAtoi alone would take them.
  if (!absl::SimpleAtoi(layer, &tensor.layer) || absl::StrCat(tensor.layer) != layer) {
    return std::nullopt;
  }
  return tensor;
}

// Reads each file's header once.
class HeaderCache {
 public:
  explicit HeaderCache(const std::string& directory) : directory_(directory) {}

  absl::StatusOr<const SafetensorsFile*> Get(const std::string& file) {
    const auto it = headers_.find(file);
    if (it != headers_.end()) return &it->second;
    ASSIGN_OR_RETURN(SafetensorsFile header,
                     ReadSafetensorsHeader(absl::StrCat(directory_, "/", file)));
    return &headers_.emplace(file, std::move(header)).first->second;
  }

 private:
  const std::string directory_;
  std::map<std::string, SafetensorsFile> headers_;
};

TensorPlace PlaceOf(const std::string& file, const std::string& name,
                    const SafetensorsTensor& tensor) {
  return {name, file, tensor.dtype, tensor.shape, tensor.file_offset, tensor.bytes};
}

// An index may name files in its own directory only: it comes from elsewhere.
absl::Status CheckFileName(const JsonFields& map, const std::string& name,
                           const nlohmann::json& file) {
  if (!file.is_string()) return map.Complain(name, "is not a file name");
  const auto& text = file.get_ref<const std::string&>();
  if (text.empty() || text == "." || text == ".." || absl::StrContains(text, '/') ||
      absl::StrContains(text, '\0')) {
    return map.Complain(
        name, absl::StrCat("names the file `", text, "`, which is not a file of the directory"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorPlace> FindIndexed(const std::string& directory, const std::string& file,
                                        const std::string& name, HeaderCache& headers) {
  const std::string path = absl::StrCat(directory, "/", file);
  std::error_code error;
  if (!fs::exists(path, error)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": the file is missing; ", kIndexFile, " places `", name, "` in it"));
  }
  ASSIGN_OR_RETURN(const SafetensorsFile* header, headers.Get(file));
  const auto tensor = header->tensors.find(name);
  if (tensor == header->tensors.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": holds no tensor `", name, "`, which ", kIndexFile, " places in it"));
  }
  return PlaceOf(file, name, tensor->second);
}

absl::StatusOr<std::vector<TensorPlace>> IndexedTableTensors(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kIndexFile);
  ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(path, kMaxIndexBytes));
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    return JsonFields(index, path).Complain("weight_map", "is missing or not a JSON object");
  }
  const JsonFields map(index["weight_map"], absl::StrCat(path, ": weight_map"));
  HeaderCache headers(directory);
  std::vector<TensorPlace> places;
  for (const auto& [name, file] : map.object().items()) {
    if (!ParseTableTensor(name).has_value()) continue;
    RETURN_IF_ERROR(CheckFileName(map, name, file));
    ASSIGN_OR_RETURN(TensorPlace place,
                     FindIndexed(directory, file.get<std::string>(), name, headers));
    places.push_back(std::move(place));
  }
  return places;
}

// The directory's *.safetensors, sorted, so that messages do not depend on the file system.
absl::StatusOr<std::vector<std::string>> ListSafetensors(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;
  fs::directory_iterator it(directory, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, ".safetensors")) files.push_back(name);
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", directory));
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<std::vector<TensorPlace>> ScannedTableTensors(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> files, ListSafetensors(directory));
  if (files.empty()) {
    return absl::NotFoundError(
        absl::StrCat(directory, ": no *.safetensors file and no ", kIndexFile));
  }
  std::vector<TensorPlace> places;
  for (const std::string& file : files) {
    ASSIGN_OR_RETURN(const SafetensorsFile header,
                     ReadSafetensorsHeader(absl::StrCat(directory, "/", file)));
    for (const auto& [name, tensor] : header.tensors) {
      if (ParseTableTensor(name).has_value()) places.push_back(PlaceOf(file, name, tensor));
    }
  }
  return places;
}

std::string Where(const std::string& directory, const TensorPlace& place) {
  return absl::StrCat(directory, "/", place.file, ": tensor `", place.name, "`");
}

absl::Status CheckTensor(const std::string& directory, const TensorPlace& place,
                         absl::string_view dtype, uint64_t rows, uint64_t width) {
  if (place.dtype != dtype) {
    return absl::InvalidArgumentError(absl::StrCat(Where(directory, place), " is ", place.dtype,
                                                   "; only ", dtype, " is supported here"));
  }
  if (place.shape != std::vector<uint64_t>{rows, width}) {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(directory, place), " has shape [", absl::StrJoin(place.shape, ", "),
                     "], but the configuration gives [", rows, ", ", width, "]"));
  }
  return absl::OkStatus();
}

// A table's two halves while they are being found.
struct Halves {
  std::optional<TensorPlace> weight;
  std::optional<TensorPlace> scale;
};

absl::StatusOr<std::map<uint32_t, Halves>> GroupByLayer(const std::string& directory,
                                                        const Geometry& geometry,
                                                        std::vector<TensorPlace> places) {
  std::map<uint32_t, Halves> layers;
  for (TensorPlace& place : places) {
    const TableTensor tensor = *ParseTableTensor(place.name);
    if (!geometry.LayerIndex(tensor.layer).ok()) {
      return absl::InvalidArgumentError(absl::StrCat(Where(directory, place),
                                                     " is a table of layer ", tensor.layer,
                                                     ", which the configuration does not list"));
    }
    Halves& halves = layers[tensor.layer];
    std::optional<TensorPlace>& half = tensor.is_scale ? halves.scale : halves.weight;
    if (half.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(Where(directory, place),
                                                     " is a second table of layer ", tensor.layer,
                                                     " beside `", half->name, "` of ", half->file));
    }
    half = std::move(place);
  }
  return layers;
}

absl::Status MissingTensor(const std::string& directory, uint32_t layer, absl::string_view half) {
  return absl::InvalidArgumentError(
      absl::StrCat(directory, ": tensor `layers.", layer, ".engram.embed.", half, "` is missing"));
}

absl::StatusOr<std::vector<LayerTensors>> FindTables(const std::string& directory,
                                                     const Geometry& geometry,
                                                     const RowLayout& layout) {
  std::error_code error;
  const bool indexed = fs::exists(absl::StrCat(directory, "/", kIndexFile), error);
  ASSIGN_OR_RETURN(std::vector<TensorPlace> places,
                   indexed ? IndexedTableTensors(directory) : ScannedTableTensors(directory));
  ASSIGN_OR_RETURN(auto by_layer, GroupByLayer(directory, geometry, std::move(places)));
  std::vector<LayerTensors> tables;
  for (const LayerGeometry& layer : geometry.layers()) {
    Halves& halves = by_layer[layer.layer_id];
    if (!halves.weight) return MissingTensor(directory, layer.layer_id, kWeight);
    // The weight first: an export of another type often has its scale under another name, and then
    // the type is the thing to say.
    RETURN_IF_ERROR(CheckTensor(directory, *halves.weight, "F8_E4M3", layer.rows, layout.values));
    if (!halves.scale) return MissingTensor(directory, layer.layer_id, kScale);
    RETURN_IF_ERROR(CheckTensor(directory, *halves.scale, "F8_E8M0", layer.rows, layout.scales));
    tables.push_back({layer.layer_id, *std::move(halves.weight), std::move(halves.scale)});
  }
  return tables;
}

// tokenizer.json is what the map derives from, so it goes before a copy in the sidecar.
absl::StatusOr<std::optional<TokenMap>> FindTokenMap(const std::string& directory,
                                                     const std::string& sidecar_path) {
  const std::string tokenizer = absl::StrCat(directory, "/tokenizer.json");
  std::error_code error;
  if (fs::exists(tokenizer, error)) {
    ASSIGN_OR_RETURN(TokenMap map, BuildTokenMap(tokenizer));
    return std::optional<TokenMap>(std::move(map));
  }
  if (fs::exists(sidecar_path, error)) {
    ASSIGN_OR_RETURN(Sidecar sidecar, ReadSidecar(sidecar_path));
    return std::move(sidecar.token_map);
  }
  return std::optional<TokenMap>();
}

absl::StatusOr<ModelConfig> ReadConfig(const std::string& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    return absl::NotFoundError(absl::StrCat(directory, ": no such directory"));
  }
  const std::string path = absl::StrCat(directory, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text, path));
  if (config.family == ModelFamily::kPaper) {
    return absl::UnimplementedError(
        absl::StrCat(path, ": tables of the paper variant of Engram cannot be loaded yet"));
  }
  if (config.row_values % kValuesPerScale != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": field `engram_head_dim` is ",
                                                   config.row_values, ", not a multiple of ",
                                                   kValuesPerScale));
  }
  return config;
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory,
                                            const CheckpointOptions& options) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  checkpoint.sidecar_path_ =
      options.sidecar.empty() ? absl::StrCat(directory, "/", kSidecarName) : options.sidecar;
  ASSIGN_OR_RETURN(checkpoint.config_, ReadConfig(directory));
  ASSIGN_OR_RETURN(checkpoint.token_map_, FindTokenMap(directory, checkpoint.sidecar_path_));
  std::optional<uint32_t> compressed;
  if (checkpoint.token_map_) compressed = checkpoint.token_map_->compressed_count();
  ASSIGN_OR_RETURN(checkpoint.geometry_, ResolveGeometry(checkpoint.config_, compressed));
  checkpoint.layout_ = PackedFp8Layout(checkpoint.config_.row_values);
  RETURN_IF_ERROR(checkpoint.layout_.Validate());
  ASSIGN_OR_RETURN(checkpoint.layers_,
                   FindTables(directory, *checkpoint.geometry_, checkpoint.layout_));
  return checkpoint;
}

}  // namespace engram

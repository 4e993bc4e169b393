#include "storage/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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
constexpr absl::string_view kIndexFile = "model.safetensors.index.json";

// Whether there is such a file; a path that cannot be looked at is an error, not absence.
absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return false;
  if (error) return SystemError(error.value(), absl::StrCat("cannot look at ", path));
  return true;
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

  const std::string& directory() const { return directory_; }

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

absl::StatusOr<TensorPlace> FindIndexed(const std::string& file, const std::string& name,
                                        HeaderCache& headers) {
  const std::string path = absl::StrCat(headers.directory(), "/", file);
  const absl::StatusOr<const SafetensorsFile*> header = headers.Get(file);
  if (absl::IsNotFound(header.status())) {
    return absl::NotFoundError(
        absl::StrCat(path, ": the file is missing; ", kIndexFile, " places `", name, "` in it"));
  }
  RETURN_IF_ERROR(header.status());
  const auto tensor = (*header)->tensors.find(name);
  if (tensor == (*header)->tensors.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": holds no tensor `", name, "`, which ", kIndexFile, " places in it"));
  }
  return PlaceOf(file, name, tensor->second);
}

absl::StatusOr<std::vector<TensorPlace>> IndexedTensors(ModelFamily family, HeaderCache& headers) {
  const std::string path = absl::StrCat(headers.directory(), "/", kIndexFile);
  ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(path, kMaxIndexBytes));
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    return JsonFields(index, path).Complain("weight_map", "is missing or not a JSON object");
  }
  const JsonFields map(index["weight_map"], absl::StrCat(path, ": weight_map"));
  std::vector<TensorPlace> places;
  for (const auto& [name, file] : map.object().items()) {
    if (!IsTableTensor(family, name)) continue;
    RETURN_IF_ERROR(CheckFileName(map, name, file));
    ASSIGN_OR_RETURN(TensorPlace place, FindIndexed(file.get<std::string>(), name, headers));
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
  if (error) return SystemError(error.value(), absl::StrCat("cannot list ", directory));
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<std::vector<TensorPlace>> ScannedTensors(ModelFamily family, HeaderCache& headers) {
  ASSIGN_OR_RETURN(const std::vector<std::string> files, ListSafetensors(headers.directory()));
  if (files.empty()) {
    return absl::NotFoundError(
        absl::StrCat(headers.directory(), ": no *.safetensors file and no ", kIndexFile));
  }
  std::vector<TensorPlace> places;
  for (const std::string& file : files) {
    ASSIGN_OR_RETURN(const SafetensorsFile* header, headers.Get(file));
    for (const auto& [name, tensor] : header->tensors) {
      if (IsTableTensor(family, name)) places.push_back(PlaceOf(file, name, tensor));
    }
  }
  return places;
}

// What an index says, where there is one; else whatever the directory's files hold.
absl::StatusOr<std::vector<TensorPlace>> FindTensors(ModelFamily family, HeaderCache& headers) {
  ASSIGN_OR_RETURN(const bool indexed, Exists(absl::StrCat(headers.directory(), "/", kIndexFile)));
  return indexed ? IndexedTensors(family, headers) : ScannedTensors(family, headers);
}

absl::StatusOr<TokenMap> IdentityMap(uint32_t tokens) {
  std::vector<uint32_t> ids(tokens);
  std::iota(ids.begin(), ids.end(), 0);
  return TokenMap::Create(std::move(ids));
}

// The map of a tokenizer.json of this hash: the sidecar's, where it was made from the same.
absl::StatusOr<TokenMap> MapOfTokenizer(const std::string& tokenizer, const Sha256& hash,
                                        const std::string& sidecar_path) {
  absl::StatusOr<Sidecar> sidecar = ReadSidecar(sidecar_path);
  if (sidecar.ok() && sidecar->tokenizer_sha256 == hash && sidecar->token_map.has_value()) {
    return *std::move(sidecar->token_map);
  }
  return BuildTokenMap(tokenizer);
}

// tokenizer.json is what the map derives from, so it goes before whatever else the sidecar has.
// `tokenizer_hash` is set where there is one.
absl::StatusOr<std::optional<TokenMap>> FindTokenMap(const ModelConfig& config,
                                                     const std::string& directory,
                                                     const std::string& sidecar_path,
                                                     std::optional<Sha256>& tokenizer_hash) {
  if (config.family == ModelFamily::kPle) {
    ASSIGN_OR_RETURN(TokenMap map, IdentityMap(config.params.compressed_vocab));
    return std::optional<TokenMap>(std::move(map));
  }
  const std::string tokenizer = absl::StrCat(directory, "/tokenizer.json");
  ASSIGN_OR_RETURN(const bool has_tokenizer, Exists(tokenizer));
  if (has_tokenizer) {
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(tokenizer, kMaxTokenizerBytes));
    tokenizer_hash = Sha256Of(bytes);
    ASSIGN_OR_RETURN(TokenMap map, MapOfTokenizer(tokenizer, *tokenizer_hash, sidecar_path));
    return std::optional<TokenMap>(std::move(map));
  }
  ASSIGN_OR_RETURN(const bool has_sidecar, Exists(sidecar_path));
  if (has_sidecar) {
    ASSIGN_OR_RETURN(Sidecar sidecar, ReadSidecar(sidecar_path));
    return std::move(sidecar.token_map);
  }
  return std::optional<TokenMap>();
}

absl::StatusOr<ModelConfig> ReadConfig(const std::string& directory) {
  ASSIGN_OR_RETURN(const bool exists, Exists(directory));
  if (!exists) return absl::NotFoundError(absl::StrCat(directory, ": no such directory"));
  const std::string path = absl::StrCat(directory, "/config.json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return ParseModelConfig(text, path);
}

absl::StatusOr<Geometry> GeometryOf(const std::string& directory, const ModelConfig& config,
                                    const std::optional<TokenMap>& map) {
  std::optional<uint32_t> compressed;
  if (map.has_value()) compressed = map->compressed_count();
  absl::StatusOr<Geometry> geometry = ResolveGeometry(config, compressed);
  if (geometry.ok()) return geometry;
  return absl::Status(geometry.status().code(),
                      absl::StrCat(directory, "/config.json: ", geometry.status().message()));
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory,
                                            const CheckpointOptions& options) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  checkpoint.sidecar_path_ =
      options.sidecar.empty() ? absl::StrCat(directory, "/", kSidecarName) : options.sidecar;
  ASSIGN_OR_RETURN(checkpoint.config_, ReadConfig(directory));
  ASSIGN_OR_RETURN(checkpoint.token_map_,
                   FindTokenMap(checkpoint.config_, directory, checkpoint.sidecar_path_,
                                checkpoint.tokenizer_sha256_));
  ASSIGN_OR_RETURN(checkpoint.geometry_,
                   GeometryOf(directory, checkpoint.config_, checkpoint.token_map_));
  HeaderCache headers(directory);
  ASSIGN_OR_RETURN(std::vector<TensorPlace> places,
                   FindTensors(checkpoint.config_.family, headers));
  for (const TensorPlace& place : places) {
    ASSIGN_OR_RETURN(const SafetensorsFile* header, headers.Get(place.file));
    checkpoint.files_[place.file] = header->stamp;
  }
  ASSIGN_OR_RETURN(checkpoint.tables_, AssembleTables(directory, checkpoint.config_,
                                                      *checkpoint.geometry_, std::move(places)));
  return checkpoint;
}

}  // namespace engram

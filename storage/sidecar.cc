#include "storage/sidecar.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "engram/storage/v1/sidecar.pb.h"
#include "proto/base/bytes.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/file_frame.h"

namespace engram {
namespace {

constexpr FileFormat kFormat = {"ENGRSIDE", 1, "a sidecar file"};
constexpr uint64_t kMaxSidecarBytes = uint64_t{1} << 32;
constexpr size_t kSumBytes = 16;

template <typename T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

absl::StatusOr<LayerSums> LayerFromMessage(const storage::v1::LayerSums& message) {
  LayerSums layer;
  layer.layer = message.layer();
  layer.rows = message.rows();
  const std::string& sums = message.block_sums();
  const uint64_t blocks = layer.rows / kBlockRows + (layer.rows % kBlockRows != 0);
  if (sums.size() % kSumBytes != 0 || sums.size() / kSumBytes != blocks) {
    return absl::DataLossError(absl::StrCat("layer ", layer.layer, " of ", layer.rows, " rows has ",
                                            sums.size(), " bytes of block sums"));
  }
  for (size_t at = 0; at < sums.size(); at += kSumBytes) {
    layer.blocks.emplace_back(Load<uint64_t>(sums.data() + at),
                              Load<uint64_t>(sums.data() + at + 8));
  }
  return layer;
}

absl::StatusOr<Sidecar> FromMessage(const storage::v1::Sidecar& message) {
  Sidecar sidecar;
  ASSIGN_OR_RETURN(sidecar.digest, Sha256FromBytes(message.digest()));
  for (const storage::v1::LayerSums& layer : message.layers()) {
    ASSIGN_OR_RETURN(LayerSums sums, LayerFromMessage(layer));
    for (const LayerSums& other : sidecar.layers) {
      if (other.layer == sums.layer) {
        return absl::DataLossError(absl::StrCat("layer ", sums.layer, " is listed twice"));
      }
    }
    sidecar.layers.push_back(std::move(sums));
  }
  if (!message.token_map().empty()) {
    ASSIGN_OR_RETURN(sidecar.token_map, TokenMap::Parse(message.token_map()));
    const Sha256& hash = sidecar.token_map->sha256();
    if (message.token_map_sha256() !=
        std::string(reinterpret_cast<const char*>(hash.data()), hash.size())) {
      return absl::DataLossError("the token map does not have the SHA-256 beside it");
    }
  }
  if (!message.tokenizer_sha256().empty()) {
    ASSIGN_OR_RETURN(sidecar.tokenizer_sha256, Sha256FromBytes(message.tokenizer_sha256()));
  }
  for (const storage::v1::TableFile& file : message.files()) {
    sidecar.files.push_back({file.name(), file.size(), file.modified_ns()});
  }
  return sidecar;
}

}  // namespace

RowSum Sidecar::TotalSum() const {
  RowSum total;
  for (const LayerSums& layer : layers) {
    for (const RowSum& block : layer.blocks) total += block;
  }
  return total;
}

absl::StatusOr<Sidecar> ReadSidecar(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxSidecarBytes));
  ASSIGN_OR_RETURN(const absl::string_view payload, UnframeWhole(kFormat, bytes, path));
  storage::v1::Sidecar message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return absl::DataLossError(absl::StrCat(path, ": the payload is not a sidecar message"));
  }
  absl::StatusOr<Sidecar> sidecar = FromMessage(message);
  if (!sidecar.ok()) {
    return absl::DataLossError(absl::StrCat(path, ": ", sidecar.status().message()));
  }
  return sidecar;
}

absl::Status WriteSidecar(const std::string& path, const Sidecar& sidecar) {
  storage::v1::Sidecar message;
  message.set_digest(sidecar.digest.data(), sidecar.digest.size());
  for (const LayerSums& layer : sidecar.layers) {
    storage::v1::LayerSums* out = message.add_layers();
    out->set_layer(layer.layer);
    out->set_rows(layer.rows);
    for (const RowSum& block : layer.blocks) {
      AppendBytes(*out->mutable_block_sums(), block.low());
      AppendBytes(*out->mutable_block_sums(), block.high());
    }
  }
  if (sidecar.token_map.has_value()) {
    message.set_token_map(sidecar.token_map->Serialize());
    const Sha256& hash = sidecar.token_map->sha256();
    message.set_token_map_sha256(hash.data(), hash.size());
  }
  if (sidecar.tokenizer_sha256.has_value()) {
    message.set_tokenizer_sha256(sidecar.tokenizer_sha256->data(),
                                 sidecar.tokenizer_sha256->size());
  }
  for (const TableFileInfo& file : sidecar.files) {
    storage::v1::TableFile* out = message.add_files();
    out->set_name(file.name);
    out->set_size(file.size);
    out->set_modified_ns(file.modified_ns);
  }
  return WriteFileAtomically(path, Frame(kFormat, message.SerializeAsString()));
}

}  // namespace engram

// A Hugging Face checkpoint directory with Engram tables.
#ifndef ENGRAM_STORAGE_CHECKPOINT_H_
#define ENGRAM_STORAGE_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/model_config.h"
#include "proto/row_layout.h"
#include "proto/sha256.h"
#include "proto/token_map.h"
#include "storage/file_stamp.h"
#include "storage/table_tensors.h"

namespace engram {

struct CheckpointOptions {
  // Where the sidecar is; empty: "engram.sidecar" in the directory.
  std::string sidecar;
};

// Everything about a checkpoint but its rows. Immutable; movable.
class Checkpoint {
 public:
  // Reads config.json, the token map (that of tokenizer.json, else the sidecar's, else none; a PLE
  // model hashes token ids as they are) and the safetensors headers, and checks that they agree.
  // A sidecar that was written with this very tokenizer.json spares making its map (0.7 s).
  // Files that hold no Engram tensor need not be there. NotFound: no directory, no config, or a
  // table file missing. InvalidArgument: anything malformed or contradictory; the message names
  // file, tensor or field. PermissionDenied and other codes of the system, naming the path.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory,
                                         const CheckpointOptions& options = {});

  const std::string& directory() const { return directory_; }
  const std::string& sidecar_path() const { return sidecar_path_; }
  const ModelConfig& config() const { return config_; }
  const Geometry& geometry() const { return *geometry_; }
  const RowLayout& layout() const { return tables_.layout; }
  const std::vector<LayerTensors>& layers() const { return tables_.layers; }  // as geometry's
  // The files that hold tables, by their names in the directory, as they were when their headers
  // were read.
  const std::map<std::string, FileStamp>& files() const { return files_; }
  const std::optional<TokenMap>& token_map() const { return token_map_; }
  // Of tokenizer.json, where there is one.
  const std::optional<Sha256>& tokenizer_sha256() const { return tokenizer_sha256_; }

 private:
  std::string directory_;
  std::string sidecar_path_;
  ModelConfig config_;
  std::optional<Geometry> geometry_;
  TableTensors tables_;
  std::map<std::string, FileStamp> files_;
  std::optional<TokenMap> token_map_;
  std::optional<Sha256> tokenizer_sha256_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_CHECKPOINT_H_

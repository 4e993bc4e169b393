// A Hugging Face checkpoint directory with Engram tables.
#ifndef ENGRAM_STORAGE_CHECKPOINT_H_
#define ENGRAM_STORAGE_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/model_config.h"
#include "proto/row_layout.h"
#include "proto/token_map.h"

namespace engram {

// Where a tensor's bytes lie.
struct TensorPlace {
  std::string name;
  std::string file;   // relative to the directory
  std::string dtype;  // as the safetensors header spells it: "F8_E4M3"
  std::vector<uint64_t> shape;
  uint64_t file_offset = 0;  // of the tensor's first byte
  uint64_t bytes = 0;
};

struct LayerTensors {
  uint32_t layer = 0;
  TensorPlace weight;
  std::optional<TensorPlace> scale;
};

struct CheckpointOptions {
  // Where the sidecar is; empty: "engram.sidecar" in the directory.
  std::string sidecar;
};

// Everything about a checkpoint but its rows. Immutable; movable.
class Checkpoint {
 public:
  // Reads config.json, the token map (from tokenizer.json, else from the sidecar, else none) and
  // the safetensors headers, and checks that they agree. Files that hold no Engram tensor need not
  // be there. NotFound: no directory, no config, or a table file missing. InvalidArgument: anything
  // malformed or contradictory; the message names file, tensor or field.
  static absl::StatusOr<Checkpoint> Open(const std::string& directory,
                                         const CheckpointOptions& options = {});

  const std::string& directory() const { return directory_; }
  const std::string& sidecar_path() const { return sidecar_path_; }
  const ModelConfig& config() const { return config_; }
  const Geometry& geometry() const { return *geometry_; }
  const RowLayout& layout() const { return layout_; }
  const std::vector<LayerTensors>& layers() const { return layers_; }  // as geometry().layers()
  const std::optional<TokenMap>& token_map() const { return token_map_; }

 private:
  std::string directory_;
  std::string sidecar_path_;
  ModelConfig config_;
  std::optional<Geometry> geometry_;
  RowLayout layout_;
  std::vector<LayerTensors> layers_;
  std::optional<TokenMap> token_map_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_CHECKPOINT_H_

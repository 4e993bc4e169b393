// The sidecar: what reading a checkpoint's tables once has found out, kept beside them.
//
// File: the frame of storage/file_frame.h, magic "ENGRSIDE", format version 1, around an
// engram.storage.v1.Sidecar message.
#ifndef ENGRAM_STORAGE_SIDECAR_H_
#define ENGRAM_STORAGE_SIDECAR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/digest.h"
#include "proto/sha256.h"
#include "proto/token_map.h"

namespace engram {

struct LayerSums {
  uint32_t layer = 0;
  uint64_t rows = 0;
  std::vector<RowSum> blocks;  // one per kBlockRows rows, the last of them maybe shorter
};

struct TableFileInfo {
  std::string name;  // relative to the checkpoint's directory
  uint64_t size = 0;
  int64_t modified_ns = 0;
};

struct Sidecar {
  Sha256 digest{};
  std::vector<LayerSums> layers;
  std::optional<TokenMap> token_map;
  std::vector<TableFileInfo> files;
  // Of the tokenizer.json that the map was made from.
  std::optional<Sha256> tokenizer_sha256;

  RowSum TotalSum() const;
};

// Default place of a checkpoint's sidecar: DIR/engram.sidecar.
inline constexpr char kSidecarName[] = "engram.sidecar";

// NotFound: no file. InvalidArgument: not a sidecar, or of another format version. DataLoss: cut
// off, or damaged. Messages name the file.
absl::StatusOr<Sidecar> ReadSidecar(const std::string& path);

// Replaces the file whole. The system's code where that fails.
absl::Status WriteSidecar(const std::string& path, const Sidecar& sidecar);

}  // namespace engram

#endif  // ENGRAM_STORAGE_SIDECAR_H_

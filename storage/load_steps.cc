#include "storage/load_steps.h"

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/table_digest.h"

namespace engram {

// The sidecar, read or computed, and held against the checkpoint.
absl::StatusOr<Sidecar> GetSidecar(const Checkpoint& checkpoint, const LoadOptions& options,
                                   bool& computed) {
  absl::StatusOr<Sidecar> sidecar = ReadSidecar(checkpoint.sidecar_path());
  if (absl::IsNotFound(sidecar.status()) && options.sidecar.empty()) {
    if (options.log) {
      options.log(absl::StrCat("no sidecar at ", checkpoint.sidecar_path(),
                               ": reading the whole tables for their digest (`engramctl digest ",
                               checkpoint.directory(), "` does it once for all servers)"));
    }
    computed = true;
    return ComputeSidecar(checkpoint, options.threads, options.log, options.progress);
  }
  RETURN_IF_ERROR(sidecar.status());
  const std::string stale =
      absl::StrCat(checkpoint.sidecar_path(), " is not of this checkpoint (run `engramctl digest ",
                   checkpoint.directory(), "` if the checkpoint changed on purpose): ");
  const std::vector<LayerGeometry>& layers = checkpoint.geometry().layers();
  if (sidecar->layers.size() != layers.size()) {
    return absl::DataLossError(absl::StrCat(stale, "it has ", sidecar->layers.size(), " layers"));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    if (sidecar->layers[i].layer != layers[i].layer_id ||
        sidecar->layers[i].rows != layers[i].rows) {
      return absl::DataLossError(absl::StrCat(stale, "its layer ", sidecar->layers[i].layer,
                                              " has ", sidecar->layers[i].rows, " rows"));
    }
  }
  std::optional<Sha256> map_hash;
  if (checkpoint.token_map().has_value()) map_hash = checkpoint.token_map()->sha256();
  if (sidecar->digest !=
      TableDigest(checkpoint.geometry(), checkpoint.layout(), map_hash, sidecar->TotalSum())) {
    return absl::DataLossError(
        absl::StrCat(stale, "its digest is of another geometry, token map or row layout"));
  }
  return sidecar;
}

absl::StatusOr<std::vector<RowRange>> RangesOf(const LoadOptions& options,
                                               const Geometry& geometry) {
  if (!options.shard_map.has_value()) return ShardRanges(geometry, options.shard);
  ASSIGN_OR_RETURN(auto ranges, options.shard_map->Ranges(geometry));
  return std::move(ranges.at(options.shard.index));
}

absl::Status CheckDigest(const LoadOptions& options, const Sha256& digest,
                         absl::string_view where) {
  if (!options.expect_digest.has_value() || *options.expect_digest == digest) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat("the table in ", where, " has the digest ",
                                                    ToHex(digest), ", not the expected ",
                                                    ToHex(*options.expect_digest)));
}

}  // namespace engram

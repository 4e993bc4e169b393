#include "storage/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/mapped_store.h"
#include "storage/memory_available.h"
#include "storage/memory_loader.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "storage/verifier.h"

namespace engram {
namespace {

void Log(const LoadOptions& options, absl::string_view line) {
  if (options.log) options.log(line);
}

absl::Status CheckMemory(const std::vector<RowRange>& ranges, const RowLayout& layout,
                         const LoadOptions& options) {
  // Rows, a checksum each, and what the process needs beside them.
  constexpr uint64_t kOverhead = 64 << 20;
  const uint64_t need = TotalRows(ranges) * (layout.row_bytes() + sizeof(uint32_t)) + kOverhead;
  uint64_t available = options.memory_budget;
  if (available == 0) {
    ASSIGN_OR_RETURN(available, MemoryAvailable());
  }
  if (need <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "this shard takes %d bytes (%.2f GiB) of memory; %d bytes (%.2f GiB) are %s. Serve a "
      "smaller shard (--shard I/N) or raise the limit",
      need, static_cast<double>(need) / (1 << 30), available,
      static_cast<double>(available) / (1 << 30),
      options.memory_budget == 0 ? "available" : "its budget"));
}

// The sidecar, read or computed, and held against the checkpoint.
absl::StatusOr<Sidecar> GetSidecar(const Checkpoint& checkpoint, const LoadOptions& options,
                                   bool& computed) {
  absl::StatusOr<Sidecar> sidecar = ReadSidecar(checkpoint.sidecar_path());
  if (absl::IsNotFound(sidecar.status()) && options.sidecar.empty()) {
    Log(options, absl::StrCat("no sidecar at ", checkpoint.sidecar_path(),
                              ": reading the whole tables for their digest (`engramctl digest ",
                              checkpoint.directory(), "` does it once for all servers)"));
    computed = true;
    return ComputeSidecar(checkpoint, options.threads, options.log);
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

// Whether the sidecar was written from files of these sizes and times.
bool HasTheFilesTimes(const Sidecar& sidecar, const Checkpoint& checkpoint) {
  if (sidecar.files.size() != checkpoint.files().size()) return false;
  return std::all_of(sidecar.files.begin(), sidecar.files.end(), [&](const TableFileInfo& file) {
    const auto it = checkpoint.files().find(file.name);
    return it != checkpoint.files().end() && it->second.size == file.size &&
           it->second.modified_ns == file.modified_ns;
  });
}

absl::StatusOr<std::vector<RowRange>> RangesOf(const LoadOptions& options,
                                               const Geometry& geometry) {
  if (!options.shard_map.has_value()) return ShardRanges(geometry, options.shard);
  ASSIGN_OR_RETURN(auto ranges, options.shard_map->Ranges(geometry));
  return std::move(ranges.at(options.shard.index));
}

absl::StatusOr<std::unique_ptr<const RowStore>> LoadMemory(const Checkpoint& checkpoint,
                                                           const std::vector<RowRange>& ranges,
                                                           const Sidecar& sidecar,
                                                           const LoadOptions& options) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<MemoryStore> store,
      LoadIntoMemory(checkpoint, ranges, sidecar, {options.threads, "loading", options.log}));
  store->state().verified_passes = 1;
  return store;
}

// Nothing is read before it is asked for, unless the files are not those of the sidecar by their
// times: then their rows are held against its sums first. (A copied checkpoint has new times.)
absl::StatusOr<std::unique_ptr<const RowStore>> Map(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const std::vector<RowRange>& ranges,
                                                    const Sidecar& sidecar, bool computed,
                                                    const LoadOptions& options) {
  const bool same_times = HasTheFilesTimes(sidecar, *checkpoint);
  ASSIGN_OR_RETURN(std::unique_ptr<MappedStore> store,
                   MappedStore::Open(std::move(checkpoint), ranges, sidecar.layers));
  if (!same_times) {
    Log(options, "the table files have other times than the sidecar says: verifying them first");
    RETURN_IF_ERROR(VerifyAll(*store, {options.threads, "verifying", options.log}));
  }
  store->state().verified_passes = computed || !same_times;
  return store;
}

}  // namespace

absl::StatusOr<StoreKind> ParseStoreKind(absl::string_view name) {
  if (name == "memory") return StoreKind::kMemory;
  if (name == "mapped") return StoreKind::kMapped;
  return absl::InvalidArgumentError(
      absl::StrCat("store `", name, "` is not known here: this version has memory and mapped"));
}

absl::StatusOr<Table> LoadTable(const LoadOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint opened,
                   Checkpoint::Open(options.checkpoint, {.sidecar = options.sidecar}));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  ASSIGN_OR_RETURN(const std::vector<RowRange> ranges, RangesOf(options, checkpoint->geometry()));
  if (options.store == StoreKind::kMemory) {
    RETURN_IF_ERROR(CheckMemory(ranges, checkpoint->layout(), options));
  }
  bool computed = false;
  ASSIGN_OR_RETURN(const Sidecar sidecar, GetSidecar(*checkpoint, options, computed));
  if (options.expect_digest.has_value() && *options.expect_digest != sidecar.digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("the table in ", checkpoint->directory(), " has the digest ",
                     ToHex(sidecar.digest), ", not the expected ", ToHex(*options.expect_digest)));
  }
  Table table{checkpoint->config().model,
              checkpoint->geometry(),
              checkpoint->token_map(),
              options.shard,
              sidecar.digest,
              nullptr};
  if (options.store == StoreKind::kMapped) {
    ASSIGN_OR_RETURN(table.rows, Map(checkpoint, ranges, sidecar, computed, options));
  } else {
    ASSIGN_OR_RETURN(table.rows, LoadMemory(*checkpoint, ranges, sidecar, options));
  }
  return table;
}

}  // namespace engram

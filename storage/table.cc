#include "storage/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/checkpoint.h"
#include "storage/memory_available.h"
#include "storage/memory_store.h"
#include "storage/parallel.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "storage/table_reader.h"

namespace engram {
namespace {

// One block of the sidecar, and the part of it that the shard keeps.
struct BlockPart {
  size_t range;  // index into the store's ranges
  size_t layer_index;
  uint64_t block;
  uint64_t begin, end;  // rows kept
};

void Log(const LoadOptions& options, absl::string_view line) {
  if (options.log) options.log(line);
}

absl::Status CheckMemory(const std::vector<RowRange>& ranges, const RowLayout& layout) {
  // Rows, a checksum each, and what the process needs beside them.
  constexpr uint64_t kOverhead = 64 << 20;
  const uint64_t need = TotalRows(ranges) * (layout.row_bytes() + sizeof(uint32_t)) + kOverhead;
  ASSIGN_OR_RETURN(const uint64_t available, MemoryAvailable());
  if (need <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "this shard takes %d bytes (%.2f GiB) of memory; %d bytes (%.2f GiB) are available. Serve a "
      "smaller shard (--shard I/N) or raise the limit",
      need, static_cast<double>(need) / (1 << 30), available,
      static_cast<double>(available) / (1 << 30)));
}

// The sidecar, read or computed, and held against the checkpoint.
absl::StatusOr<Sidecar> GetSidecar(const Checkpoint& checkpoint, const LoadOptions& options) {
  absl::StatusOr<Sidecar> sidecar = ReadSidecar(checkpoint.sidecar_path());
  if (absl::IsNotFound(sidecar.status()) && options.sidecar.empty()) {
    Log(options, absl::StrCat("no sidecar at ", checkpoint.sidecar_path(),
                              ": reading the whole tables for their digest (`engramctl digest ",
                              checkpoint.directory(), "` does it once for all servers)"));
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

std::vector<BlockPart> CutIntoBlocks(const Geometry& geometry,
                                     const std::vector<RowRange>& ranges) {
  std::vector<BlockPart> parts;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const size_t layer_index = *geometry.LayerIndex(ranges[i].layer);
    for (uint64_t begin = ranges[i].begin; begin < ranges[i].end;) {
      const uint64_t block = begin / kBlockRows;
      const uint64_t end = std::min(ranges[i].end, (block + 1) * kBlockRows);
      parts.push_back({i, layer_index, block, begin, end});
      begin = end;
    }
  }
  return parts;
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const TableReader& reader, const Sidecar& sidecar,
         MemoryStore& store)
      : checkpoint_(checkpoint), reader_(reader), sidecar_(sidecar), store_(store) {}

  // Reads the part into the store and holds its whole block against the sidecar.
  absl::Status LoadPart(const BlockPart& part) const {
    const LayerGeometry& layer = checkpoint_.geometry().layers()[part.layer_index];
    const uint64_t block_begin = part.block * kBlockRows;
    const uint64_t block_end = std::min(block_begin + kBlockRows, layer.rows);
    ASSIGN_OR_RETURN(RowSum sum, LoadRows(part, layer.layer_id));
    // What the shard's border cuts off is read for the sum alone.
    ASSIGN_OR_RETURN(const RowSum before,
                     SumRows(reader_, checkpoint_, part.layer_index, block_begin, part.begin));
    ASSIGN_OR_RETURN(const RowSum after,
                     SumRows(reader_, checkpoint_, part.layer_index, part.end, block_end));
    sum += before;
    sum += after;
    if (sum == sidecar_.layers[part.layer_index].blocks[part.block]) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(ToString(RowRange{layer.layer_id, block_begin, block_end}), " (block ",
                     part.block, ") differ from the sums in ", checkpoint_.sidecar_path(),
                     ": the files are damaged or have changed. If they changed on purpose run "
                     "`engramctl digest ",
                     checkpoint_.directory(), "`"));
  }

 private:
  absl::StatusOr<RowSum> LoadRows(const BlockPart& part, uint32_t layer) const {
    const uint32_t row_bytes = store_.layout().row_bytes();
    RowSum sum;
    // In chunks that are still in the cache when they are hashed.
    for (uint64_t begin = part.begin; begin < part.end; begin += kChunkRows) {
      const uint64_t count = std::min(kChunkRows, part.end - begin);
      const MemoryStore::Place place = store_.PlaceOf(part.range, begin);
      RETURN_IF_ERROR(reader_.Read(part.layer_index, begin, count, place.rows));
      for (uint64_t i = 0; i < count; ++i) {
        const uint8_t* row = place.rows + i * row_bytes;
        place.checksums[i] = Crc32c(row, row_bytes);
        sum.AddRow(layer, begin + i, row, row_bytes);
      }
    }
    return sum;
  }

  const Checkpoint& checkpoint_;
  const TableReader& reader_;
  const Sidecar& sidecar_;
  MemoryStore& store_;
};

}  // namespace

absl::StatusOr<Table> LoadTable(const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                   Checkpoint::Open(options.checkpoint, {.sidecar = options.sidecar}));
  const std::vector<RowRange> ranges = ShardRanges(checkpoint.geometry(), options.shard);
  RETURN_IF_ERROR(CheckMemory(ranges, checkpoint.layout()));
  ASSIGN_OR_RETURN(const Sidecar sidecar, GetSidecar(checkpoint, options));
  if (options.expect_digest.has_value() && *options.expect_digest != sidecar.digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("the table in ", checkpoint.directory(), " has the digest ",
                     ToHex(sidecar.digest), ", not the expected ", ToHex(*options.expect_digest)));
  }
  ASSIGN_OR_RETURN(const auto reader, TableReader::Open(checkpoint));
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store,
                   MemoryStore::Create(checkpoint.geometry(), checkpoint.layout(), ranges));
  const Loader loader(checkpoint, *reader, sidecar, *store);
  const std::vector<BlockPart> parts = CutIntoBlocks(checkpoint.geometry(), store->ranges());
  const uint64_t row_bytes = checkpoint.layout().row_bytes();
  RETURN_IF_ERROR(ForEachInParallel(parts.size(), store->bytes(),
                                    {options.threads, "loading", options.log},
                                    [&](uint64_t i, uint64_t& bytes) {
                                      bytes = (parts[i].end - parts[i].begin) * row_bytes;
                                      return loader.LoadPart(parts[i]);
                                    }));
  return Table{checkpoint.config().model,
               checkpoint.geometry(),
               checkpoint.token_map(),
               options.shard,
               sidecar.digest,
               std::move(store)};
}

}  // namespace engram

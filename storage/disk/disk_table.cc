#include "storage/disk/disk_table.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/disk/data_dir.h"
#include "storage/disk/disk_database.h"
#include "storage/disk/disk_import.h"
#include "storage/disk/disk_store.h"
#include "storage/disk/part_check.h"
#include "storage/load_steps.h"
#include "storage/memory_available.h"
#include "storage/memory_store.h"
#include "storage/parallel.h"
#include "storage/table_digest.h"

namespace engram {
namespace {

void Log(const LoadOptions& options, absl::string_view line) {
  if (options.log) options.log(line);
}

std::vector<RowRange> Sorted(std::vector<RowRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const RowRange& a, const RowRange& b) {
    return a.layer != b.layer ? a.layer < b.layer : a.begin < b.begin;
  });
  return ranges;
}

absl::Status Import(const LoadOptions& options, const DataDir& data_dir) {
  if (options.checkpoint.empty()) {
    return absl::NotFoundError(absl::StrCat(
        data_dir.path(), " has no shard: import one (`engramctl import`, or --checkpoint)"));
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                   Checkpoint::Open(options.checkpoint, {.sidecar = options.sidecar}));
  ASSIGN_OR_RETURN(std::vector<RowRange> ranges, RangesOf(options, checkpoint.geometry()));
  bool computed = false;
  ASSIGN_OR_RETURN(const Sidecar sidecar, GetSidecar(checkpoint, options, computed));
  RETURN_IF_ERROR(CheckDigest(options, sidecar.digest, checkpoint.directory()));
  ShardManifest manifest{
      checkpoint.config().model, sidecar.digest, checkpoint.geometry(),     checkpoint.layout(),
      checkpoint.token_map(),    options.shard,  Sorted(std::move(ranges)), {}};
  return ImportShard(data_dir, checkpoint, sidecar, std::move(manifest),
                     {options.threads, "importing", options.log, options.progress});
}

// Whether the checkpoint, as far as it is still there, is that of the database.
absl::Status CheckCheckpoint(const LoadOptions& options, const std::string& where,
                             const ShardManifest& manifest) {
  if (options.checkpoint.empty()) return absl::OkStatus();
  const absl::StatusOr<Checkpoint> checkpoint =
      Checkpoint::Open(options.checkpoint, {.sidecar = options.sidecar});
  if (absl::IsNotFound(checkpoint.status())) return absl::OkStatus();  // It is not needed.
  RETURN_IF_ERROR(checkpoint.status());
  const absl::StatusOr<Sidecar> sidecar = ReadSidecar(checkpoint->sidecar_path());
  const bool same =
      checkpoint->geometry().params() == manifest.geometry.params() &&
      checkpoint->layout() == manifest.layout &&
      (!sidecar.ok() || sidecar->digest == manifest.digest || manifest.Had(sidecar->digest));
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(where, " has the table with the digest ",
                                                    ToHex(manifest.digest), ", not that in ",
                                                    options.checkpoint));
}

absl::Status CheckShard(const LoadOptions& options, const std::string& where,
                        const ShardManifest& manifest) {
  const std::optional<Sha256>& expected = options.expect_digest;
  if (!expected.has_value() || !manifest.Had(*expected)) {
    RETURN_IF_ERROR(CheckDigest(options, manifest.digest, where));
  }
  RETURN_IF_ERROR(CheckCheckpoint(options, where, manifest));
  ASSIGN_OR_RETURN(const std::vector<RowRange> ranges, RangesOf(options, manifest.geometry));
  if (options.shard == manifest.shard && Sorted(ranges) == manifest.ranges) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      where, " has shard ", manifest.shard.ToString(), " of ", TotalRows(manifest.ranges),
      " rows, not shard ", options.shard.ToString(), " of ", TotalRows(ranges)));
}

absl::StatusOr<DiskDatabase> OpenOrImport(const LoadOptions& options, const DiskOptions& disk,
                                          const DataDir& data_dir) {
  absl::StatusOr<DiskDatabase> opened = OpenDiskDatabase(data_dir.database(), disk.direct_reads);
  if (absl::IsNotFound(opened.status())) {
    RETURN_IF_ERROR(Import(options, data_dir));
    opened = OpenDiskDatabase(data_dir.database(), disk.direct_reads);
  } else if (opened.ok()) {
    Log(options, absl::StrCat(data_dir.path(), " has the shard: nothing is imported"));
  }
  RETURN_IF_ERROR(opened.status());
  RETURN_IF_ERROR(CheckShard(options, data_dir.path(), opened->manifest));
  if (!opened->manifest.former.empty()) {
    Log(options, absl::StrCat(data_dir.path(), " has the table ", ToHex(opened->manifest.digest),
                              ", a later generation of ", ToHex(opened->manifest.former[0])));
  }
  // What an import or a fold that was ended has left takes space, nothing else.
  std::error_code ignored;
  std::filesystem::remove_all(data_dir.import(), ignored);
  std::filesystem::remove_all(data_dir.fold(), ignored);
  return opened;
}

// Every row, against its checksum and its block's sum.
absl::StatusOr<std::unique_ptr<const RowStore>> LoadWhole(const DiskDatabase& opened,
                                                          const LoadOptions& options) {
  const ShardManifest& manifest = opened.manifest;
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store,
                   MemoryStore::Create(manifest.geometry, manifest.layout, manifest.ranges));
  const RowGroups groups(manifest.layout);
  const std::vector<RowRange> parts = CutIntoBlocks(manifest.ranges);
  const auto load = [&](uint64_t i, uint64_t& bytes) -> absl::Status {
    const RowRange& part = parts[i];
    const MemoryStore::Place place = store->PlaceOf(part.layer, part.begin);
    const auto keep = [&](uint64_t row, const uint8_t* row_bytes, uint32_t checksum) {
      std::copy_n(row_bytes, groups.row_bytes(),
                  place.rows + (row - part.begin) * groups.row_bytes());
      place.checksums[row - part.begin] = checksum;
    };
    PartCheck check(groups, part);
    const GroupKey begin(part.layer, groups.GroupOf(part.begin));
    const GroupKey end(part.layer, groups.GroupOf(part.end - 1) + 1);
    RETURN_IF_ERROR(opened.rows->Scan(begin.view(), end.view(),
                                      [&](absl::string_view key, absl::string_view value) {
                                        if (check.done())
                                          return absl::DataLossError("more rows than there were");
                                        return check.Take(key, value, keep);
                                      }));
    if (!check.done() || check.sum() != manifest.sums[i]) {
      return absl::DataLossError(absl::StrCat(ToString(part), " differ from their sum"));
    }
    bytes = part.rows() * groups.row_bytes();
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachInParallel(parts.size(), store->bytes(),
                                    {options.threads, "loading", options.log, options.progress},
                                    load));
  store->state().verified_passes = 1;
  return store;
}

double GiB(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

absl::StatusOr<std::unique_ptr<const RowStore>> Serve(DiskDatabase opened, DataDir data_dir,
                                                      const LoadOptions& options,
                                                      const DiskOptions& disk) {
  // Of a shard in memory: what the process needs beside rows and checksums.
  constexpr uint64_t kOverhead = 64 << 20;
  uint64_t budget = options.memory_budget;
  if (budget == 0) {
    ASSIGN_OR_RETURN(budget, MemoryAvailable());
  }
  const uint64_t rows = TotalRows(opened.manifest.ranges);
  const uint64_t whole = rows * (opened.manifest.layout.row_bytes() + sizeof(uint32_t)) + kOverhead;
  if (whole <= budget) {
    Log(options, absl::StrFormat("the shard takes %.2f GiB of the memory budget of %.2f GiB: it is "
                                 "served from memory whole",
                                 GiB(whole), GiB(budget)));
    auto store = LoadWhole(opened, options);
    if (store.ok()) return store;
    Log(options, absl::StrCat("it is served from disk, since not all of it can be read: ",
                              store.status().message()));
  }
  if (options.memory_budget == 0) budget = budget / 4 * 3;
  const uint64_t index_bytes = opened.rows->index_bytes();
  if (budget <= index_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the index of the shard in %s takes %d bytes of memory; the budget is %d",
                        data_dir.path(), index_bytes, budget));
  }
  ASSIGN_OR_RETURN(
      std::unique_ptr<DiskStore> store,
      DiskStore::Open(std::move(data_dir), std::move(opened),
                      {budget - index_bytes, disk.read_threads, disk.direct_reads, options.log}));
  Log(options, absl::StrFormat("the shard is served from disk: its index takes %.2f GiB of memory, "
                               "the cache has room for %d rows of %d",
                               GiB(index_bytes), store->cache_rows(), rows));
  return store;
}

}  // namespace

absl::StatusOr<Table> OpenDiskTable(const LoadOptions& options, const DiskOptions& disk) {
  ASSIGN_OR_RETURN(DataDir data_dir, DataDir::Hold(disk.data_dir));
  ASSIGN_OR_RETURN(DiskDatabase opened, OpenOrImport(options, disk, data_dir));
  const ShardManifest& manifest = opened.manifest;
  Table table{manifest.model, manifest.geometry, manifest.token_map,
              manifest.shard, manifest.digest,   nullptr};
  ASSIGN_OR_RETURN(table.rows, Serve(std::move(opened), std::move(data_dir), options, disk));
  return table;
}

absl::StatusOr<ShardManifest> ReadShardManifest(const std::string& database) {
  ASSIGN_OR_RETURN(DiskDatabase opened, OpenDiskDatabase(database, /*direct=*/false));
  return std::move(opened.manifest);
}

absl::StatusOr<ShardManifest> ImportDiskTable(const LoadOptions& options, const DiskOptions& disk) {
  ASSIGN_OR_RETURN(const DataDir data_dir, DataDir::Hold(disk.data_dir));
  ASSIGN_OR_RETURN(DiskDatabase opened, OpenOrImport(options, disk, data_dir));
  return std::move(opened.manifest);
}

}  // namespace engram

#include "storage/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"
#include "storage/arena_file.h"
#include "storage/checkpoint.h"
#include "storage/load_steps.h"
#include "storage/mapped_store.h"
#include "storage/memory_available.h"
#include "storage/memory_loader.h"
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

// Whether the sidecar was written from files of these sizes and times.
bool HasTheFilesTimes(const Sidecar& sidecar, const Checkpoint& checkpoint) {
  if (sidecar.files.size() != checkpoint.files().size()) return false;
  return std::all_of(sidecar.files.begin(), sidecar.files.end(), [&](const TableFileInfo& file) {
    const auto it = checkpoint.files().find(file.name);
    return it != checkpoint.files().end() && it->second.size == file.size &&
           it->second.modified_ns == file.modified_ns;
  });
}

absl::StatusOr<std::unique_ptr<const RowStore>> LoadMemory(const Checkpoint& checkpoint,
                                                           const std::vector<RowRange>& ranges,
                                                           const Sidecar& sidecar,
                                                           const LoadOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store,
                   MemoryStore::Create(checkpoint.geometry(), checkpoint.layout(), ranges));
  RETURN_IF_ERROR(LoadIntoMemory(
      checkpoint, sidecar, {options.threads, "loading", options.log, options.progress}, *store));
  store->state().verified_passes = 1;
  return store;
}

// The rows that an earlier process has left, where they are those of their checksums as far as they
// are looked at; else all of them anew.
absl::StatusOr<std::unique_ptr<const RowStore>> LoadArena(const Checkpoint& checkpoint,
                                                          const std::vector<RowRange>& ranges,
                                                          const Sidecar& sidecar,
                                                          const LoadOptions& options) {
  const uint32_t row_bytes = checkpoint.layout().row_bytes();
  ASSIGN_OR_RETURN(
      const std::shared_ptr<ArenaFile> file,
      ArenaFile::Open(options.arena_dir, {sidecar.digest, row_bytes, ranges}, options.log));
  const auto make_store = [&] {
    return MemoryStore::Create(checkpoint.geometry(), checkpoint.layout(), ranges, file);
  };
  if (file->complete()) {
    ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store, make_store());
    const absl::Status sound = VerifySample(*store);
    if (sound.ok()) {
      Log(options, absl::StrFormat("arena %s: %.2f GB taken as they are; what was not looked at is "
                                   "verified in the background",
                                   file->path(), static_cast<double>(store->bytes()) / 1e9));
      return store;
    }
    Log(options, absl::StrCat(file->path(), ": ", sound.message(), ": loading anew"));
  }
  // What the file held is not counted: it is given back first. Huge pages are set aside already.
  RETURN_IF_ERROR(file->Clear());
  if (options.memory_budget == 0 && !file->directory().huge_pages) {
    RETURN_IF_ERROR(CheckMemory(ranges, checkpoint.layout(), options));
  }
  RETURN_IF_ERROR(file->Allocate());
  ASSIGN_OR_RETURN(std::unique_ptr<MemoryStore> store, make_store());
  RETURN_IF_ERROR(LoadIntoMemory(
      checkpoint, sidecar, {options.threads, "loading", options.log, options.progress}, *store));
  RETURN_IF_ERROR(file->MarkComplete());
  Log(options, absl::StrCat("arena ", file->path(), ": complete"));
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
    RETURN_IF_ERROR(
        VerifyAll(*store, {options.threads, "verifying", options.log, options.progress}));
  }
  store->state().verified_passes = computed || !same_times;
  return store;
}

}  // namespace

absl::StatusOr<StoreKind> ParseStoreKind(absl::string_view name) {
  if (name == "memory") return StoreKind::kMemory;
  if (name == "mapped") return StoreKind::kMapped;
  if (name == "rocksdb") return StoreKind::kRocksDb;
  return absl::InvalidArgumentError(absl::StrCat(
      "store `", name, "` is not known here: this version has memory, mapped and rocksdb"));
}

absl::StatusOr<Table> LoadTable(const LoadOptions& options) {
  if (options.store == StoreKind::kRocksDb) {
    return absl::InternalError("a shard on disk is opened by OpenDiskTable");
  }
  const bool in_file = !options.arena_dir.empty();
  if (in_file && options.store != StoreKind::kMemory) {
    return absl::InvalidArgumentError("an arena directory is for the memory store alone");
  }
  ASSIGN_OR_RETURN(Checkpoint opened,
                   Checkpoint::Open(options.checkpoint, {.sidecar = options.sidecar}));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  ASSIGN_OR_RETURN(const std::vector<RowRange> ranges, RangesOf(options, checkpoint->geometry()));
  // Whether an arena takes memory that is there already is known once its table is.
  if (options.store == StoreKind::kMemory && (!in_file || options.memory_budget != 0)) {
    RETURN_IF_ERROR(CheckMemory(ranges, checkpoint->layout(), options));
  }
  bool computed = false;
  ASSIGN_OR_RETURN(const Sidecar sidecar, GetSidecar(*checkpoint, options, computed));
  RETURN_IF_ERROR(CheckDigest(options, sidecar.digest, checkpoint->directory()));
  Table table{checkpoint->config().model,
              checkpoint->geometry(),
              checkpoint->token_map(),
              options.shard,
              sidecar.digest,
              nullptr};
  if (options.store == StoreKind::kMapped) {
    ASSIGN_OR_RETURN(table.rows, Map(checkpoint, ranges, sidecar, computed, options));
  } else if (in_file) {
    ASSIGN_OR_RETURN(table.rows, LoadArena(*checkpoint, ranges, sidecar, options));
  } else {
    ASSIGN_OR_RETURN(table.rows, LoadMemory(*checkpoint, ranges, sidecar, options));
  }
  return table;
}

}  // namespace engram

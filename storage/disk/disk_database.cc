#include "storage/disk/disk_database.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::StatusOr<DiskDatabase> OpenDiskDatabase(const std::string& path, bool direct_reads) {
  DiskDatabase opened;
  ASSIGN_OR_RETURN(opened.rows, RocksDb::Open(path, direct_reads));
  ASSIGN_OR_RETURN(const std::string bytes, opened.rows->Get(kManifestKey));
  absl::StatusOr<ShardManifest> manifest = ParseShardManifest(bytes);
  if (!manifest.ok()) {
    return absl::Status(manifest.status().code(),
                        absl::StrCat(path, ": ", manifest.status().message()));
  }
  opened.manifest = *std::move(manifest);
  return opened;
}

}  // namespace engram

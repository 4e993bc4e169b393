// A copy of a data directory: a shard on disk, and what was published there.
//
// A backup is a directory with the files of the data directory under their names, and `backup`,
// written last: framed (storage/file_frame.h) with the magic "ENGRBKUP", version 1, around a line
// for each file, "CHECKSUM BYTES NAME\n", with the CRC32C (8 hex digits) of the CRC32Cs,
// little-endian, of its pieces of 1 MiB.
#ifndef ENGRAM_STORAGE_DISK_BACKUP_H_
#define ENGRAM_STORAGE_DISK_BACKUP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram {

struct BackupFile {
  std::string name;  // relative; "catalogue", "delta-N" or "rows/..."
  uint64_t bytes = 0;
  uint32_t checksum = 0;
};

// Copies a data directory to `out`, made where it is not there. A server may have it, and
// generations may come and go meanwhile: the copy is of one catalogue, and of the rows before a
// fold or after it. Durable when it returns.
//   NotFound            no data directory, or it holds nothing
//   FailedPrecondition  an import is under way or was ended early; `out` is not empty
//   Aborted             generations, or files of rows, changed faster than they were copied
//   DataLoss            what was copied is no shard; else the system's code, naming the file
absl::StatusOr<std::vector<BackupFile>> BackUp(const std::string& data_dir, const std::string& out);

// Makes a data directory of a backup: `data_dir` is there when all of it is, with every byte held
// against the checksums, and not before.
//   NotFound            `backup` is none, or was not finished
//   FailedPrecondition  `data_dir` is there and not empty
//   DataLoss            a file is damaged, cut off or missing (it is named)
//   InvalidArgument     a backup of another format version; else the system's code
absl::StatusOr<std::vector<BackupFile>> Restore(const std::string& backup,
                                                const std::string& data_dir);

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_BACKUP_H_

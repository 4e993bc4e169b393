// A shard's rows and their checksums in a file on tmpfs or hugetlbfs, which outlives the process:
// the next one maps it instead of reading the checkpoint.
//
// File: at 0 the header (storage/arena_header.h), then at the places that it states the rows, one
// behind the other, range by range, and the CRC32C of each, u32. All little-endian.
#ifndef ENGRAM_STORAGE_ARENA_FILE_H_
#define ENGRAM_STORAGE_ARENA_FILE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/mutex.h"
#include "storage/arena_directory.h"
#include "storage/arena_header.h"
#include "storage/bus_guard.h"

namespace engram {

// States: Open gives a file that is complete(), whose rows another process has left, or one that is
// not. Allocate makes it an empty one, which is to be filled; MarkComplete then makes it complete.
// MarkDamaged has the next Open say that it is not. While it lives no other process can open the
// file. MarkDamaged and lost() are for any thread; the rest is for one.
class ArenaFile {
 public:
  // Opens, or makes, the file of these contents in `directory`. Says in the log (may be null) why a
  // file that is there is not complete, and names the directory's other arenas, which stay.
  // FailedPrecondition: another process has it open; it is another user's; it holds something else
  // than its name says. InvalidArgument: not a place for arenas; not an arena; one of another
  // format version. PermissionDenied and other codes of the system, naming the path.
  static absl::StatusOr<std::shared_ptr<ArenaFile>> Open(
      const std::string& directory, ArenaContents contents,
      const std::function<void(absl::string_view)>& log);
  // A file that has been allocated and is not complete gives its memory back.
  ~ArenaFile();
  ArenaFile(const ArenaFile&) = delete;
  ArenaFile& operator=(const ArenaFile&) = delete;

  const std::string& path() const { return path_; }
  const ArenaDirectory& directory() const { return directory_; }
  bool complete() const { return complete_; }

  // Gives back what the file holds. Ends what rows() and checksums() point to.
  absl::Status Clear();
  // Clears it, reserves all that it will hold, as zeros, and maps it.
  // ResourceExhausted naming directory and sizes where the file system has not that much.
  absl::Status Allocate();

  // After Open of a complete file, or Allocate.
  uint8_t* rows() const { return data_ + header_.rows_offset; }
  uint32_t* checksums() const {
    return reinterpret_cast<uint32_t*>(data_ + header_.checksums_offset);
  }

  // Once every row and checksum is in place; from here on they cannot be written to. DataLoss:
  // somebody has cut the file meanwhile.
  absl::Status MarkComplete();
  void MarkDamaged();

  // OK: what was read from the file until now is what it holds. DataLoss: somebody has cut it.
  absl::Status Check() const;

 private:
  ArenaFile(ArenaDirectory directory, ArenaContents contents);

  absl::Status OpenAndLock();
  absl::Status TakeRows();
  absl::Status Map(uint64_t bytes);
  void Unmap();
  void Protect();
  void WriteHeader(ArenaState state);

  const ArenaDirectory directory_;
  const std::string path_;
  ArenaHeader header_;
  int fd_ = -1;  // holds the lock
  bool complete_ = false;
  bool allocated_ = false;
  void* reserved_ = nullptr;  // address space, with room to align
  uint64_t reserved_bytes_ = 0;
  uint8_t* data_ = nullptr;  // the file, aligned to its pages and to 2 MiB
  std::unique_ptr<BusGuard> guard_;
  Mutex header_mutex_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_ARENA_FILE_H_

// The directory that a shard on disk lives in.
#ifndef ENGRAM_STORAGE_DISK_DATA_DIR_H_
#define ENGRAM_STORAGE_DISK_DATA_DIR_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// Held by one process at a time, for the life of this object. Movable.
class DataDir {
 public:
  // Creates the directory where there is none. Unavailable: another process holds it.
  // PermissionDenied (and other codes of the system): it cannot be written to.
  static absl::StatusOr<DataDir> Hold(const std::string& path);
  DataDir(DataDir&& other) noexcept
      : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}
  DataDir& operator=(DataDir&&) = delete;
  ~DataDir();

  const std::string& path() const { return path_; }
  std::string database() const { return path_ + "/rows"; }
  std::string import() const { return path_ + "/import"; }      // files of an import under way
  std::string fold() const { return path_ + "/fold"; }          // files of a fold under way
  std::string hot_rows() const { return path_ + "/hot-rows"; }  // storage/disk/hot_rows.h

  // ResourceExhausted, naming both figures: `what` takes more bytes than are free.
  absl::Status CheckRoom(absl::string_view what, uint64_t bytes) const;

 private:
  DataDir(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::string path_;
  int lock_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DATA_DIR_H_

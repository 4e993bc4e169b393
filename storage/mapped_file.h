// A file in the address space whose loss does not take the process with it.
#ifndef ENGRAM_STORAGE_MAPPED_FILE_H_
#define ENGRAM_STORAGE_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/bus_guard.h"
#include "storage/file_stamp.h"

namespace engram {

// A read-only shared mapping of a whole file. A page that cannot be read (the file was cut short,
// the disk fails) reads as zeros, and Check then fails (storage/bus_guard.h). Movable; safe for any
// number of threads.
class MappedFile {
 public:
  // DataLoss: the file is not the one that `stamp` is of. ResourceExhausted: no address space, or
  // more than kMaxBusGuards mappings. The system's code where it fails.
  static absl::StatusOr<MappedFile> Open(const std::string& path, const FileStamp& stamp);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  const uint8_t* data() const { return data_; }
  uint64_t bytes() const { return stamp_.size; }

  // OK: what was read from data() until now is what the file held when it was opened. DataLoss: it
  // may not be; the file has changed or a page could not be read.
  absl::Status Check() const;

 private:
  MappedFile(std::string path, const FileStamp& stamp) : path_(std::move(path)), stamp_(stamp) {}

  std::string path_;
  FileStamp stamp_;
  int fd_ = -1;
  const uint8_t* data_ = nullptr;
  std::unique_ptr<BusGuard> guard_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_MAPPED_FILE_H_

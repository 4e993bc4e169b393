// A file in the address space whose loss does not take the process with it.
#ifndef ENGRAM_STORAGE_MAPPED_FILE_H_
#define ENGRAM_STORAGE_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/file_stamp.h"

namespace engram {

// A read-only shared mapping of a whole file. A page that cannot be read (the file was cut short,
// the disk fails) raises SIGBUS; the process's handler, installed by the first mapping, puts a page
// of zeros in its place and marks the file: Check then fails. Signals for other addresses go to
// whatever handler there was before. Movable; safe for any number of threads.
class MappedFile {
 public:
  // DataLoss: the file is not the one that `stamp` is of. ResourceExhausted: no address space, or
  // more than kMaxMappedFiles. The system's code where it fails.
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
  int region_ = -1;  // index into the handler's list
};

inline constexpr int kMaxMappedFiles = 4096;

}  // namespace engram

#endif  // ENGRAM_STORAGE_MAPPED_FILE_H_

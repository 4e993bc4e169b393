#include "storage/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path, const FileStamp& stamp) {
  MappedFile file(path, stamp);
  // Without O_NONBLOCK a pipe that has taken the file's place would be waited for.
  file.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return SystemError(errno, absl::StrCat("cannot open ", path));
  RETURN_IF_ERROR(CheckStamp(file.fd_, path, stamp));
  void* const data = mmap(nullptr, stamp.size, PROT_READ, MAP_SHARED, file.fd_, 0);
  if (data == MAP_FAILED) {
    const int error = errno;  // Making the message may change it.
    const absl::Status status = SystemError(error, absl::StrCat("cannot map ", path));
    return error == ENOMEM ? absl::ResourceExhaustedError(status.message()) : status;
  }
  file.data_ = static_cast<const uint8_t*>(data);
  // Rows are read here and there: reading ahead of them would only push others out.
  madvise(data, stamp.size, MADV_RANDOM);
  ASSIGN_OR_RETURN(file.guard_, BusGuard::Create(data, stamp.size));
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      stamp_(other.stamp_),
      fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      guard_(std::move(other.guard_)) {}

MappedFile::~MappedFile() {
  guard_.reset();
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), stamp_.size);
  if (fd_ >= 0) close(fd_);
}

absl::Status MappedFile::Check() const {
  RETURN_IF_ERROR(CheckStamp(fd_, path_, stamp_));
  if (guard_->lost()) {
    return absl::DataLossError(absl::StrCat(path_, ": a part of it cannot be read any more"));
  }
  return absl::OkStatus();
}

}  // namespace engram

#include "storage/arena_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;

absl::StatusOr<struct stat> StatOf(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(errno, absl::StrCat("cannot stat ", path));
  return info;
}

ArenaContents Sorted(ArenaContents contents) {
  std::sort(contents.ranges.begin(), contents.ranges.end(),
            [](const RowRange& a, const RowRange& b) {
              return a.layer != b.layer ? a.layer < b.layer : a.begin < b.begin;
            });
  return contents;
}

}  // namespace

absl::StatusOr<std::shared_ptr<ArenaFile>> ArenaFile::Open(
    const std::string& path, ArenaContents contents,
    const std::function<void(absl::string_view)>& log) {
  ASSIGN_OR_RETURN(ArenaDirectory directory, ArenaDirectory::Look(path));
  std::shared_ptr<ArenaFile> file(new ArenaFile(std::move(directory), Sorted(std::move(contents))));
  RETURN_IF_ERROR(file->OpenAndLock());
  const auto say = [&](const std::string& line) {
    if (log) log(line);
  };
  for (const std::string& other : file->directory_.Others(ArenaFileName(file->header_.contents))) {
    struct stat info;
    if (stat(other.c_str(), &info) != 0) continue;
    say(absl::StrFormat("%s (%.2f GB) is another table's or shard's: left as it is", other,
                        static_cast<double>(info.st_blocks) * 512 / 1e9));
  }
  const absl::Status taken = file->TakeRows();
  if (absl::IsDataLoss(taken)) {
    say(absl::StrCat(taken.message(), ": loading anew"));
  } else if (!absl::IsNotFound(taken)) {
    RETURN_IF_ERROR(taken);
  }
  return file;
}

ArenaFile::ArenaFile(ArenaDirectory directory, ArenaContents contents)
    : directory_(std::move(directory)),
      path_(absl::StrCat(directory_.path, "/", ArenaFileName(contents))),
      header_(ArenaHeader::For(std::move(contents))) {}

ArenaFile::~ArenaFile() {
  Unmap();
  if (fd_ < 0) return;
  // The name stays: between its removal and the end of the lock others could come to hold two files
  // of one name.
  if (allocated_ && !complete_ && ftruncate(fd_, 0) != 0) {
    // Then the memory is given back by who loads next.
  }
  close(fd_);
}

absl::Status ArenaFile::OpenAndLock() {
  while (true) {
    // Neither a link, which in /dev/shm anybody may leave, nor a pipe.
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd_ < 0) return SystemError(errno, absl::StrCat("cannot open the arena ", path_));
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error == EINTR) {
        close(std::exchange(fd_, -1));
        continue;
      }
      if (error != EWOULDBLOCK) return SystemError(error, absl::StrCat("cannot lock ", path_));
      return absl::FailedPreconditionError(
          absl::StrCat("arena ", path_,
                       " is in use by another process: servers of one shard need "
                       "an --arena-dir each"));
    }
    ASSIGN_OR_RETURN(const struct stat info, StatOf(fd_, path_));
    if (info.st_nlink == 0) {  // Removed between the two calls.
      close(std::exchange(fd_, -1));
      continue;
    }
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path_, " is not a regular file"));
    }
    if (info.st_uid != geteuid()) {
      return absl::FailedPreconditionError(absl::StrCat(path_, " belongs to user ", info.st_uid,
                                                        ", this process to user ", geteuid()));
    }
    return absl::OkStatus();
  }
}

// NotFound: the file is a new one. DataLoss: its rows cannot be taken, and nobody will miss them.
absl::Status ArenaFile::TakeRows() {
  ASSIGN_OR_RETURN(const struct stat info, StatOf(fd_, path_));
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes == 0) return absl::NotFoundError(path_);
  RETURN_IF_ERROR(Map(bytes));
  const auto read_header = [&]() -> absl::StatusOr<ArenaHeader> {
    const absl::string_view front(reinterpret_cast<const char*>(data_),
                                  std::min(bytes, kMaxHeaderBytes));
    if (front.substr(0, 8).find_first_not_of('\0') == front.npos) {
      return absl::DataLossError(absl::StrCat(path_, " has no header yet"));
    }
    ASSIGN_OR_RETURN(ArenaHeader header, ArenaHeader::Parse(front, path_));
    if (header.contents != header_.contents) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " holds rows of the table ", ToHex(header.contents.digest),
                       ", or other rows of it, not what it is named for"));
    }
    switch (header.state) {
      case ArenaState::kLoading:
        return absl::DataLossError(absl::StrCat(path_, " was not completely loaded"));
      case ArenaState::kDamaged:
        return absl::DataLossError(absl::StrCat(path_, " was found to be damaged"));
      case ArenaState::kComplete:
        break;
    }
    if (bytes < header.end()) {
      return absl::DataLossError(absl::StrCat(path_, " has ", bytes, " bytes, not ", header.end()));
    }
    return header;
  };
  absl::StatusOr<ArenaHeader> header = read_header();
  if (!header.ok()) {
    Unmap();
    return header.status();
  }
  header_ = *std::move(header);
  complete_ = true;
  Protect();
  return absl::OkStatus();
}

absl::Status ArenaFile::Clear() {
  Unmap();
  complete_ = false;
  header_ = ArenaHeader::For(header_.contents);
  if (ftruncate(fd_, 0) == 0) return absl::OkStatus();
  return SystemError(errno, absl::StrCat("cannot empty ", path_));
}

absl::Status ArenaFile::Allocate() {
  RETURN_IF_ERROR(Clear());
  const uint64_t bytes = AlignUp(header_.end(), directory_.page_bytes);
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return SystemError(errno, absl::StrCat("cannot size ", path_));
  }
  allocated_ = true;
  // A page that the file system has not got would be a SIGBUS at its first touch.
  int error = 0;
  do {
    error = fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == ENOSPC || error == ENOMEM) {
    ASSIGN_OR_RETURN(const ArenaDirectory now, ArenaDirectory::Look(directory_.path));
    return absl::ResourceExhaustedError(absl::StrFormat(
        "arena directory %s: the shard takes %d bytes (%.2f GiB); its file system has %d bytes "
        "(%.2f GiB) free of %d. Enlarge it, serve a smaller shard (--shard I/N), or remove arenas "
        "that are no longer wanted",
        directory_.path, bytes, static_cast<double>(bytes) / (1 << 30), now.free_bytes,
        static_cast<double>(now.free_bytes) / (1 << 30), now.total_bytes));
  }
  if (error != 0) return SystemError(error, absl::StrCat("cannot reserve ", path_));
  RETURN_IF_ERROR(Map(bytes));
  WriteHeader(ArenaState::kLoading);
  return absl::OkStatus();
}

absl::Status ArenaFile::Map(uint64_t bytes) {
  const uint64_t alignment = std::max(kHugePage, directory_.page_bytes);
  reserved_bytes_ = AlignUp(bytes, directory_.page_bytes) + alignment;
  void* const reserved =
      mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", path_, ": ", std::strerror(errno)));
  }
  reserved_ = reserved;
  auto* const aligned =
      reinterpret_cast<uint8_t*>(AlignUp(reinterpret_cast<uintptr_t>(reserved), alignment));
  if (mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED) {
    const int error = errno;
    Unmap();
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", path_, ": ", std::strerror(error)));
  }
  data_ = aligned;
  madvise(data_, bytes, MADV_HUGEPAGE);  // Where tmpfs is mounted or set so as to listen.
  ASSIGN_OR_RETURN(guard_, BusGuard::Create(data_, AlignUp(bytes, directory_.page_bytes),
                                            directory_.page_bytes));
  return absl::OkStatus();
}

void ArenaFile::Unmap() {
  guard_.reset();
  if (reserved_ != nullptr) munmap(std::exchange(reserved_, nullptr), reserved_bytes_);
  data_ = nullptr;
}

// Against stray writes. Fails on pages larger than the header's place, which does no harm.
void ArenaFile::Protect() {
  mprotect(data_ + header_.rows_offset, header_.end() - header_.rows_offset, PROT_READ);
}

void ArenaFile::WriteHeader(ArenaState state) {
  MutexLock lock(&header_mutex_);
  header_.state = state;
  const std::string bytes = header_.Serialize();
  // What a process has written before it is killed stays written, in this order: the rows of a
  // header that says so are complete. Half a header has a wrong checksum. Only the compiler could
  // change that order: stores that a core has made are seen, killed or not.
  std::atomic_signal_fence(std::memory_order_release);
  std::memcpy(data_, bytes.data(), bytes.size());
}

absl::Status ArenaFile::MarkComplete() {
  RETURN_IF_ERROR(Check());
  Protect();
  WriteHeader(ArenaState::kComplete);
  complete_ = true;
  return absl::OkStatus();
}

void ArenaFile::MarkDamaged() { WriteHeader(ArenaState::kDamaged); }

absl::Status ArenaFile::Check() const {
  if (!guard_->lost()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("arena ", path_, ": a part of it is gone"));
}

}  // namespace engram

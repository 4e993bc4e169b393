#include "storage/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// A mapping as the signal handler sees it: free while `end` is 0.
struct Region {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

std::array<Region, kMaxMappedFiles> regions;
std::atomic<int> regions_in_use{0};  // none of those beyond is
Mutex regions_mutex;                 // of changes to the list; the handler only reads
struct sigaction previous_action;
uintptr_t page_bytes = 0;

// Runs in a signal handler: atomics and system calls alone.
void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const int count = regions_in_use.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    Region& region = regions[static_cast<size_t>(i)];
    if (address < region.begin.load() || address >= region.end.load()) continue;
    // Marked before the zeros can be seen: who reads them sees the mark.
    region.lost.store(true);
    void* const page = reinterpret_cast<void*>(address & ~(page_bytes - 1));
    if (mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
      break;
    }
    errno = saved_errno;
    return;
  }
  errno = saved_errno;
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
  } else {
    // Back where the access is made again, which now ends the process as it would have.
    sigaction(signal, &previous_action, nullptr);
  }
}

absl::Status InstallHandler() ABSL_EXCLUSIVE_LOCKS_REQUIRED(regions_mutex) {
  if (page_bytes != 0) return absl::OkStatus();
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, &previous_action) != 0) {
    return SystemError(errno, "cannot handle SIGBUS");
  }
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return absl::OkStatus();
}

absl::StatusOr<int> Register(const uint8_t* data, uint64_t bytes) {
  MutexLock lock(&regions_mutex);
  RETURN_IF_ERROR(InstallHandler());
  for (int i = 0; i < kMaxMappedFiles; ++i) {
    Region& region = regions[static_cast<size_t>(i)];
    if (region.end.load() != 0) continue;
    region.lost = false;
    region.begin = reinterpret_cast<uintptr_t>(data);
    region.end = reinterpret_cast<uintptr_t>(data) + bytes;
    if (i >= regions_in_use) regions_in_use = i + 1;
    return i;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", kMaxMappedFiles, " files are mapped"));
}

void Unregister(int region) {
  MutexLock lock(&regions_mutex);
  regions[static_cast<size_t>(region)].end = 0;
}

}  // namespace

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
  ASSIGN_OR_RETURN(file.region_, Register(file.data_, stamp.size));
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      stamp_(other.stamp_),
      fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      region_(std::exchange(other.region_, -1)) {}

MappedFile::~MappedFile() {
  if (region_ >= 0) Unregister(region_);
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), stamp_.size);
  if (fd_ >= 0) close(fd_);
}

absl::Status MappedFile::Check() const {
  RETURN_IF_ERROR(CheckStamp(fd_, path_, stamp_));
  if (regions[static_cast<size_t>(region_)].lost.load()) {
    return absl::DataLossError(absl::StrCat(path_, ": a part of it cannot be read any more"));
  }
  return absl::OkStatus();
}

}  // namespace engram

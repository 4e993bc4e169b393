#include "storage/bus_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

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
  std::atomic<uintptr_t> page_bytes{0};
  std::atomic<bool> lost{false};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

std::array<Region, kMaxBusGuards> regions;
std::atomic<int> regions_in_use{0};  // none of those beyond is
Mutex regions_mutex;                 // of changes to the list; the handler only reads
struct sigaction previous_action;
bool handler_installed = false;

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
    const uintptr_t page_bytes = region.page_bytes.load();
    void* const page = reinterpret_cast<void*>(address & ~(page_bytes - 1));
    // Writable: the mapping may be one that is being filled.
    if (mmap(page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
             0) == MAP_FAILED) {
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
  if (handler_installed) return absl::OkStatus();
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, &previous_action) != 0) {
    return SystemError(errno, "cannot handle SIGBUS");
  }
  handler_installed = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BusGuard>> BusGuard::Create(const void* data, uint64_t bytes,
                                                           uint64_t page_bytes) {
  MutexLock lock(&regions_mutex);
  RETURN_IF_ERROR(InstallHandler());
  for (int i = 0; i < kMaxBusGuards; ++i) {
    Region& region = regions[static_cast<size_t>(i)];
    if (region.end.load() != 0) continue;
    region.lost = false;
    region.page_bytes =
        page_bytes != 0 ? page_bytes : static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    region.begin = reinterpret_cast<uintptr_t>(data);
    region.end = reinterpret_cast<uintptr_t>(data) + bytes;
    if (i >= regions_in_use) regions_in_use = i + 1;
    return std::unique_ptr<BusGuard>(new BusGuard(i));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", kMaxBusGuards, " mappings are guarded"));
}

BusGuard::~BusGuard() {
  MutexLock lock(&regions_mutex);
  regions[static_cast<size_t>(region_)].end = 0;
}

bool BusGuard::lost() const { return regions[static_cast<size_t>(region_)].lost.load(); }

}  // namespace engram

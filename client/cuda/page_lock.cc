#include "client/cuda/page_lock.h"

#include <unistd.h>

#include <algorithm>

#include "proto/base/status_macros.h"

namespace engram {

absl::StatusOr<CUdeviceptr> MappedAddress(const CudaDriver& driver, const void* host) {
  CUdeviceptr device = 0;
  RETURN_IF_ERROR(
      ENGRAM_CUDA(driver, cuMemHostGetDevicePointer, &device, const_cast<void*>(host), 0));
  return device;
}

absl::Status PageLock::Lock(std::vector<std::span<const uint8_t>> buffers) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  std::sort(buffers.begin(), buffers.end(),
            [](const auto& a, const auto& b) { return a.data() < b.data(); });
  std::vector<Range> wanted;
  for (const std::span<const uint8_t>& buffer : buffers) {
    if (buffer.empty()) continue;
    const auto address = reinterpret_cast<uintptr_t>(buffer.data());
    const uintptr_t begin = address / page * page;
    const uintptr_t end = (address + buffer.size() + page - 1) / page * page;
    if (!wanted.empty() && begin <= wanted.back().end) {
      wanted.back().end = std::max(wanted.back().end, end);
    } else {
      wanted.push_back({begin, end});
    }
  }
  for (Range& range : wanted) {
    void* const begin = reinterpret_cast<void*>(range.begin);
    RETURN_IF_ERROR(ENGRAM_CUDA(driver_, cuMemHostRegister, begin, range.end - range.begin,
                                CU_MEMHOSTREGISTER_DEVICEMAP));
    ranges_.push_back(range);
    ASSIGN_OR_RETURN(ranges_.back().device, MappedAddress(driver_, begin));
  }
  return absl::OkStatus();
}

absl::StatusOr<CUdeviceptr> PageLock::DeviceAddress(const void* host) const {
  const auto address = reinterpret_cast<uintptr_t>(host);
  for (const Range& range : ranges_) {
    if (address >= range.begin && address < range.end)
      return range.device + (address - range.begin);
  }
  return absl::InternalError("host memory that was not locked");
}

PageLock::~PageLock() {
  for (const Range& range : ranges_) {
    driver_.cuMemHostUnregister(reinterpret_cast<void*>(range.begin));
  }
}

}  // namespace engram

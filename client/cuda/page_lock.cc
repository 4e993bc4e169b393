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
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::sort(buffers.begin(), buffers.end(),
            [](const auto& a, const auto& b) { return a.data() < b.data(); });
  std::vector<Range> wanted;
  for (const std::span<const uint8_t>& buffer : buffers) {
    if (buffer.empty()) continue;
    auto* const data = const_cast<uint8_t*>(buffer.data());
    const size_t within = reinterpret_cast<uintptr_t>(data) % page;
    uint8_t* const begin = data - within;
    uint8_t* const end = begin + (within + buffer.size() + page - 1) / page * page;
    if (!wanted.empty() && begin <= wanted.back().end) {
      wanted.back().end = std::max(wanted.back().end, end);
    } else {
      wanted.push_back({begin, end});
    }
  }
  for (const Range& range : wanted) {
    const auto bytes = static_cast<size_t>(range.end - range.begin);
    RETURN_IF_ERROR(
        ENGRAM_CUDA(driver_, cuMemHostRegister, range.begin, bytes, CU_MEMHOSTREGISTER_DEVICEMAP));
    ranges_.push_back(range);
    ASSIGN_OR_RETURN(ranges_.back().device, MappedAddress(driver_, range.begin));
  }
  return absl::OkStatus();
}

absl::StatusOr<CUdeviceptr> PageLock::DeviceAddress(const void* host) const {
  const auto* const byte = static_cast<const uint8_t*>(host);
  for (const Range& range : ranges_) {
    if (byte >= range.begin && byte < range.end) {
      return range.device + static_cast<CUdeviceptr>(byte - range.begin);
    }
  }
  return absl::InternalError("host memory that was not locked");
}

PageLock::~PageLock() {
  for (const Range& range : ranges_) driver_.cuMemHostUnregister(range.begin);
}

}  // namespace engram

// Host memory that a device reads and writes. Internal to client/cuda.
#ifndef ENGRAM_CLIENT_CUDA_PAGE_LOCK_H_
#define ENGRAM_CLIENT_CUDA_PAGE_LOCK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cuda/driver.h"

namespace engram {

// Page-locks and maps buffers for the current context, or finds those that are mapped already.
// Whole pages, each once: two buffers may share one. The driver must outlive it.
class PageLock {
 public:
  explicit PageLock(const CudaDriver& driver) : driver_(driver) {}
  // In the context that they were mapped in.
  ~PageLock();
  PageLock(const PageLock&) = delete;

  // Once. After an error what was locked is unlocked by the destructor.
  absl::Status Lock(std::vector<std::span<const uint8_t>> buffers);

  // The device's address of a byte of a buffer that was locked.
  absl::StatusOr<CUdeviceptr> DeviceAddress(const void* host) const;

 private:
  struct Range {
    uint8_t* begin;
    uint8_t* end;
    CUdeviceptr device = 0;
  };

  const CudaDriver& driver_;
  std::vector<Range> ranges_;  // locked, ascending
};

// The device's address of the first byte of memory that somebody else has locked and mapped.
absl::StatusOr<CUdeviceptr> MappedAddress(const CudaDriver& driver, const void* host);

}  // namespace engram

#endif  // ENGRAM_CLIENT_CUDA_PAGE_LOCK_H_

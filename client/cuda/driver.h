// The CUDA driver's calls that client/cuda uses, from a library opened at run time: a machine
// without a GPU has none, and the same binary runs there. Internal to client/cuda.
#ifndef ENGRAM_CLIENT_CUDA_DRIVER_H_
#define ENGRAM_CLIENT_CUDA_DRIVER_H_

#include <cuda.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// cuda.h gives some of these names a version (cuMemHostRegister is cuMemHostRegister_v2): so have
// the library's symbols. All are in drivers of CUDA 11.7 and later.
#define ENGRAM_CUDA_CALLS(CALL)   \
  CALL(cuInit)                    \
  CALL(cuGetErrorName)            \
  CALL(cuDeviceGetAttribute)      \
  CALL(cuCtxGetCurrent)           \
  CALL(cuCtxGetDevice)            \
  CALL(cuCtxPushCurrent)          \
  CALL(cuCtxPopCurrent)           \
  CALL(cuMemHostRegister)         \
  CALL(cuMemHostUnregister)       \
  CALL(cuMemHostGetDevicePointer) \
  CALL(cuMemcpyHtoDAsync)         \
  CALL(cuStreamCreate)            \
  CALL(cuStreamDestroy)           \
  CALL(cuStreamSynchronize)       \
  CALL(cuStreamWaitEvent)         \
  CALL(cuStreamWaitValue64)       \
  CALL(cuStreamWriteValue64)      \
  CALL(cuEventCreate)             \
  CALL(cuEventDestroy)            \
  CALL(cuEventRecord)             \
  CALL(cuEventSynchronize)

// Immutable; its calls are as thread-safe as CUDA's.
class CudaDriver {
 public:
  // Opens the library (by the loader's rules, or at a path) and initializes the driver.
  // Unimplemented: there is no such library, or it lacks a call (named): a machine without a
  // driver, or with one that is too old.
  static absl::StatusOr<std::unique_ptr<CudaDriver>> Open(const std::string& library);
  ~CudaDriver();

  // OK, or what the caller is to do about `result` of `call`:
  //   InvalidArgument     a handle or pointer is not what the driver expects
  //   FailedPrecondition  no context, or one that is gone; something that a capture does not allow
  //   ResourceExhausted   no memory
  //   AlreadyExists       host memory that is registered already
  //   Unimplemented       not on this device
  //   Unknown             anything else; the cause may be earlier work on the device
  // The message is "cuStreamWaitValue64: CUDA_ERROR_INVALID_VALUE".
  absl::Status StatusOf(absl::string_view call, CUresult result) const;

#define ENGRAM_CUDA_FIELD(call) decltype(&::call) call = nullptr;
  ENGRAM_CUDA_CALLS(ENGRAM_CUDA_FIELD)
#undef ENGRAM_CUDA_FIELD

 private:
  explicit CudaDriver(void* library) : library_(library) {}

  void* const library_;
};

// The status of one call: ENGRAM_CUDA(driver, cuEventRecord, event, stream).
#define ENGRAM_CUDA(driver, call, ...) (driver).StatusOf(#call, (driver).call(__VA_ARGS__))

// Makes a context the calling thread's while it lives.
class CurrentContext {
 public:
  CurrentContext(const CudaDriver& driver, CUcontext context)
      : driver_(driver), status_(ENGRAM_CUDA(driver, cuCtxPushCurrent, context)) {}
  ~CurrentContext() {
    CUcontext popped;
    if (status_.ok()) driver_.cuCtxPopCurrent(&popped);
  }
  CurrentContext(const CurrentContext&) = delete;

  const absl::Status& status() const { return status_; }

 private:
  const CudaDriver& driver_;
  const absl::Status status_;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_CUDA_DRIVER_H_

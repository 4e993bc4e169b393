#include "client/cuda/driver.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

#define ENGRAM_SYMBOL_OF(call) ENGRAM_SYMBOL_TEXT(call)
#define ENGRAM_SYMBOL_TEXT(symbol) #symbol

namespace engram {
namespace {

absl::StatusCode CodeOf(CUresult result) {
  switch (result) {
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
      return absl::StatusCode::kInvalidArgument;
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED:
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_MERGE:
    case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED:
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
    case CUDA_ERROR_CAPTURED_EVENT:
      return absl::StatusCode::kFailedPrecondition;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return absl::StatusCode::kResourceExhausted;
    case CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
      return absl::StatusCode::kAlreadyExists;
    case CUDA_ERROR_NOT_SUPPORTED:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kUnknown;
  }
}

// By the interface's name for a call, and the library's.
template <typename Call>
absl::Status Find(void* library, const std::string& path, const char* symbol, Call& call) {
  call = reinterpret_cast<Call>(dlsym(library, symbol));
  if (call != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("the CUDA driver ", path, " has no ", symbol, "; CUDA 11.7 and later have"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDriver>> CudaDriver::Open(const std::string& library) {
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return absl::UnimplementedError(absl::StrCat("no CUDA driver: ", dlerror()));
  }
  std::unique_ptr<CudaDriver> driver(new CudaDriver(handle));
#define ENGRAM_FIND(call) \
  RETURN_IF_ERROR(Find(handle, library, ENGRAM_SYMBOL_OF(call), driver->call));
  ENGRAM_CUDA_CALLS(ENGRAM_FIND)
#undef ENGRAM_FIND
  RETURN_IF_ERROR(ENGRAM_CUDA(*driver, cuInit, 0));
  return driver;
}

CudaDriver::~CudaDriver() { dlclose(library_); }

absl::Status CudaDriver::StatusOf(absl::string_view call, CUresult result) const {
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  const char* name = nullptr;
  if (cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) {
    return absl::Status(CodeOf(result),
                        absl::StrCat(call, ": CUDA error ", static_cast<int>(result)));
  }
  return absl::Status(CodeOf(result), absl::StrCat(call, ": ", name));
}

}  // namespace engram

// What the stand-in exports, as libcuda.so.1 does.
#include <cuda.h>

#include <cstring>
#include <memory>

#include "tests/cuda/fake_driver.h"
#include "tests/cuda/fake_stream.h"

using namespace engram::fake_cuda;  // NOLINT

#define ENTER(call, ...)                                                                      \
  if (const CUresult failed = Enter(call __VA_OPT__(, ) __VA_ARGS__); failed != CUDA_SUCCESS) \
  return failed

extern "C" {

CUresult CUDAAPI cuInit(unsigned flags) {
  ENTER("cuInit", false);
  return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** name) {
  static const std::map<CUresult, const char*> kNames = {
      {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
      {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
      {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"},
      {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
      {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
      {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}};
  const auto found = kNames.find(error);
  if (found == kNames.end()) return CUDA_ERROR_INVALID_VALUE;
  *name = found->second;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  ENTER("cuDeviceGetAttribute", false);
  if (device != kDevice) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  const auto found = TheDriver().attributes.find(attribute);
  *value = found == TheDriver().attributes.end() ? 1 : found->second;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
  ENTER("cuCtxGetCurrent", false);
  *context = Contexts().empty() ? nullptr : Contexts().back();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
  ENTER("cuCtxGetDevice");
  *device = kDevice;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  ENTER("cuCtxPushCurrent", false);
  if (context != kContext) return CUDA_ERROR_INVALID_CONTEXT;
  Contexts().push_back(context);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  ENTER("cuCtxPopCurrent");
  *context = Contexts().back();
  Contexts().pop_back();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostRegister(void* host, size_t bytes, unsigned flags) {
  ENTER("cuMemHostRegister");
  const auto begin = reinterpret_cast<uintptr_t>(host);
  if (bytes == 0 || (flags & CU_MEMHOSTREGISTER_DEVICEMAP) == 0) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  for (const auto& [other, size] : TheDriver().registered) {
    if (begin < other + size && other < begin + bytes) {
      return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
  }
  TheDriver().registered[begin] = bytes;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemHostUnregister(void* host) {
  ENTER("cuMemHostUnregister");
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  return TheDriver().registered.erase(reinterpret_cast<uintptr_t>(host)) == 1
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr* device, void* host, unsigned flags) {
  ENTER("cuMemHostGetDevicePointer");
  const auto address = reinterpret_cast<uintptr_t>(host);
  if (flags != 0 || !TheDriver().IsRegistered(address, 1)) return CUDA_ERROR_INVALID_VALUE;
  *device = address + kDeviceOffset;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes,
                                   CUstream stream) {
  ENTER("cuMemcpyHtoDAsync");
  const auto source = reinterpret_cast<uintptr_t>(from);
  // A real one copies from pageable memory, too, but not asynchronously.
  if (!TheDriver().IsRegistered(source, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (!Knows(stream)) return CUDA_ERROR_INVALID_HANDLE;
  stream->Enqueue([=] {
    if (!TheDriver().IsRegistered(source, bytes)) {
      ++TheDriver().faults;
      return;
    }
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  });
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned flags) {
  ENTER("cuStreamCreate");
  if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  *stream = new CUstream_st;
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  TheDriver().streams.insert(*stream);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
  ENTER("cuStreamDestroy");
  if (!Knows(stream)) return CUDA_ERROR_INVALID_HANDLE;
  {
    const std::lock_guard<std::mutex> lock(TheDriver().mutex);
    TheDriver().streams.erase(stream);
  }
  delete stream;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  ENTER("cuStreamSynchronize");
  if (!Knows(stream)) return CUDA_ERROR_INVALID_HANDLE;
  stream->Synchronize();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  ENTER("cuStreamWaitEvent");
  if (!Knows(stream) || !Knows(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard<std::mutex> lock(event->mutex);
  if (event->moment != nullptr) stream->Enqueue([moment = event->moment] { moment->Wait(); });
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamWaitValue64(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                     unsigned flags) {
  ENTER("cuStreamWaitValue64");
  if (!Knows(stream)) return CUDA_ERROR_INVALID_HANDLE;
  if (WordAt(address) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  stream->Enqueue([=] { WaitForWord(address, value, flags); });
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamWriteValue64(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                      unsigned flags) {
  ENTER("cuStreamWriteValue64");
  if (!Knows(stream)) return CUDA_ERROR_INVALID_HANDLE;
  if (WordAt(address) == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  stream->Enqueue([=] {
    uint64_t* const word = WordAt(address);
    if (word == nullptr) {
      ++TheDriver().faults;
      return;
    }
    std::atomic_ref<uint64_t>(*word).store(value, std::memory_order_release);
  });
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned flags) {
  ENTER("cuEventCreate");
  if (flags != CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_VALUE;
  *event = new CUevent_st;
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  TheDriver().events.insert(*event);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventDestroy(CUevent event) {
  ENTER("cuEventDestroy");
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  if (TheDriver().events.erase(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete event;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
  ENTER("cuEventRecord");
  if (!Knows(stream) || !Knows(event)) return CUDA_ERROR_INVALID_HANDLE;
  const std::lock_guard<std::mutex> lock(event->mutex);
  event->moment = std::make_shared<FakeMoment>();
  stream->Enqueue([moment = event->moment] { moment->Come(); });
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
  ENTER("cuEventSynchronize");
  if (!Knows(event)) return CUDA_ERROR_INVALID_HANDLE;
  std::shared_ptr<FakeMoment> moment;
  {
    const std::lock_guard<std::mutex> lock(event->mutex);
    moment = event->moment;
  }
  if (moment != nullptr) moment->Wait();
  return CUDA_SUCCESS;
}

}  // extern "C"

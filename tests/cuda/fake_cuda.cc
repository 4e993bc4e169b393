#include "tests/cuda/fake_cuda.h"

#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "tests/cuda/fake_stream.h"

namespace engram::fake_cuda {
namespace {

// Of mapped host memory: its address for the device.
constexpr uint64_t kDeviceOffset = uint64_t{1} << 46;
constexpr CUdevice kDevice = 3;
const CUcontext kContext = reinterpret_cast<CUcontext>(0x1000);

struct Failure {
  CUresult result;
  int skip;
};

// Everything but streams and events, which are the caller's until they are destroyed.
struct Driver {
  std::mutex mutex;
  std::vector<std::string> calls;
  std::map<std::string, Failure> failures;
  std::map<int, int> attributes;  // 1 unless told
  std::map<uintptr_t, size_t> registered;
  std::set<CUstream> streams;
  std::set<CUevent> events;
  std::atomic<int> faults = 0;

  bool IsRegistered(uintptr_t begin, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto next = registered.upper_bound(begin);
    if (next == registered.begin()) return false;
    --next;
    return begin + bytes <= next->first + next->second;
  }
};

Driver& TheDriver() {
  static auto* driver = new Driver;
  return *driver;
}

thread_local std::vector<CUcontext> contexts;

// Records a call; what it is to fail with, if it is.
CUresult Enter(const char* call, bool needs_context = true) {
  Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  driver.calls.push_back(call);
  const auto failure = driver.failures.find(call);
  if (failure != driver.failures.end() && failure->second.skip-- == 0) {
    const CUresult result = failure->second.result;
    driver.failures.erase(failure);
    return result;
  }
  return needs_context && contexts.empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

bool Knows(CUstream stream) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  return TheDriver().streams.contains(stream);
}
bool Knows(CUevent event) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  return TheDriver().events.contains(event);
}

// The word behind a device address; null where that is not mapped or not aligned.
uint64_t* WordAt(CUdeviceptr device) {
  const uint64_t host = device - kDeviceOffset;
  if (device < kDeviceOffset || host % sizeof(uint64_t) != 0) return nullptr;
  return TheDriver().IsRegistered(host, sizeof(uint64_t)) ? reinterpret_cast<uint64_t*>(host)
                                                          : nullptr;
}

bool Holds(uint64_t word, uint64_t value, unsigned flags) {
  switch (flags) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return static_cast<int64_t>(word - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return word == value;
    default:
      return true;
  }
}

void WaitForWord(CUdeviceptr device, uint64_t value, unsigned flags) {
  for (;;) {
    uint64_t* const word = WordAt(device);
    if (word == nullptr) {
      ++TheDriver().faults;
      return;
    }
    if (Holds(std::atomic_ref<uint64_t>(*word).load(std::memory_order_acquire), value, flags)) {
      return;
    }
    std::this_thread::yield();
  }
}

}  // namespace

void Reset() {
  Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  driver.calls.clear();
  driver.failures.clear();
  driver.attributes.clear();
  driver.faults = 0;
  contexts.assign(1, kContext);
}

void SetContextCurrent(bool is) { contexts.assign(is ? 1 : 0, kContext); }

void SetAttribute(CUdevice_attribute attribute, int value) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  TheDriver().attributes[attribute] = value;
}

void Fail(const std::string& call, CUresult result, int skip) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  TheDriver().failures[call] = {result, skip};
}

std::vector<std::string> Calls() {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  std::vector<std::string> calls;
  for (const std::string& call : TheDriver().calls) {
    if (call != "cuCtxPushCurrent" && call != "cuCtxPopCurrent") calls.push_back(call);
  }
  return calls;
}

Left WhatIsLeft() {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  size_t bytes = 0;
  for (const auto& [begin, size] : TheDriver().registered) bytes += size;
  return {TheDriver().streams.size(), TheDriver().events.size(), bytes,
          static_cast<int>(contexts.size()) - 1};
}

int Faults() { return TheDriver().faults; }

bool IsIdle(CUstream stream) { return stream->IsIdle(); }

}  // namespace engram::fake_cuda

// ---------------------------------------------------------------- what the library exports

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
  *context = contexts.empty() ? nullptr : contexts.back();
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
  contexts.push_back(context);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  ENTER("cuCtxPopCurrent");
  *context = contexts.back();
  contexts.pop_back();
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

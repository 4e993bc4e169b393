#include "tests/cuda/fake_driver.h"

#include <thread>

#include "tests/cuda/fake_cuda.h"
#include "tests/cuda/fake_stream.h"

namespace engram::fake_cuda {
namespace {

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

}  // namespace

Driver& TheDriver() {
  static auto* driver = new Driver;
  return *driver;
}

std::vector<CUcontext>& Contexts() {
  static thread_local std::vector<CUcontext> contexts;
  return contexts;
}

CUresult Enter(const char* call, bool needs_context) {
  Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  driver.calls.push_back(call);
  const auto failure = driver.failures.find(call);
  if (failure != driver.failures.end() && failure->second.skip-- == 0) {
    const CUresult result = failure->second.result;
    driver.failures.erase(failure);
    return result;
  }
  return needs_context && Contexts().empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

bool Knows(CUstream stream) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  return TheDriver().streams.contains(stream);
}
bool Knows(CUevent event) {
  const std::lock_guard<std::mutex> lock(TheDriver().mutex);
  return TheDriver().events.contains(event);
}

uint64_t* WordAt(CUdeviceptr device) {
  const uint64_t host = device - kDeviceOffset;
  if (device < kDeviceOffset || host % sizeof(uint64_t) != 0) return nullptr;
  return TheDriver().IsRegistered(host, sizeof(uint64_t)) ? reinterpret_cast<uint64_t*>(host)
                                                          : nullptr;
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

void Reset() {
  Driver& driver = TheDriver();
  const std::lock_guard<std::mutex> lock(driver.mutex);
  driver.calls.clear();
  driver.failures.clear();
  driver.attributes.clear();
  driver.faults = 0;
  Contexts().assign(1, kContext);
}

void SetContextCurrent(bool is) { Contexts().assign(is ? 1 : 0, kContext); }

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
          static_cast<int>(Contexts().size()) - 1};
}

int Faults() { return TheDriver().faults; }

bool IsIdle(CUstream stream) { return stream->IsIdle(); }

}  // namespace engram::fake_cuda

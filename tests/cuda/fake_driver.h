// What the stand-in driver knows.
#ifndef ENGRAM_TESTS_CUDA_FAKE_DRIVER_H_
#define ENGRAM_TESTS_CUDA_FAKE_DRIVER_H_

#include <cuda.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace engram::fake_cuda {

// Of mapped host memory: its address for the device.
inline constexpr uint64_t kDeviceOffset = uint64_t{1} << 46;
inline constexpr CUdevice kDevice = 3;
inline const CUcontext kContext = reinterpret_cast<CUcontext>(0x1000);

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

Driver& TheDriver();

// Those of this thread, the current one last.
std::vector<CUcontext>& Contexts();

// Records a call; what it is to fail with, if it is.
CUresult Enter(const char* call, bool needs_context = true);

bool Knows(CUstream stream);
bool Knows(CUevent event);

// The word behind a device address; null where that is not mapped or not aligned.
uint64_t* WordAt(CUdeviceptr device);

// On a stream's thread. A word that is unregistered meanwhile is a fault.
void WaitForWord(CUdeviceptr device, uint64_t value, unsigned flags);

}  // namespace engram::fake_cuda

#endif  // ENGRAM_TESTS_CUDA_FAKE_DRIVER_H_

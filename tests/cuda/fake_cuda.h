// A stand-in for libcuda.so.1: streams are threads, device memory is memory of this process, and
// waits really wait. What follows is how tests look into it; tests link it and open it by its path,
// which is the same library. Mapped memory has device addresses that differ from the host's, so
// that a mix-up is an error.
#ifndef ENGRAM_TESTS_CUDA_FAKE_CUDA_H_
#define ENGRAM_TESTS_CUDA_FAKE_CUDA_H_

#include <cuda.h>

#include <string>
#include <vector>

namespace engram::fake_cuda {

// Back to the start: no calls recorded, nothing to fail, every attribute there, a context current
// in this thread.
void Reset();

void SetContextCurrent(bool is);
void SetAttribute(CUdevice_attribute attribute, int value);

// The call of that name (without a version) fails once, after `skip` more that do not.
void Fail(const std::string& call, CUresult result, int skip = 0);

// Names, in order, but those of pushes, pops and error names.
std::vector<std::string> Calls();

// What is left of each kind, and bytes registered.
struct Left {
  size_t streams, events, registered_bytes;
  int contexts;  // pushed and not popped in this thread, above the first
};
Left WhatIsLeft();

// Things that a real driver would not survive: memory unregistered under a stream's wait or copy.
int Faults();

// True once `stream` has done all that was enqueued.
bool IsIdle(CUstream stream);

}  // namespace engram::fake_cuda

#endif  // ENGRAM_TESTS_CUDA_FAKE_CUDA_H_

// What an engine may do with a slot's packed rows on the device: dequantize them to bf16. Compiled
// with the tests so that it builds; it has not run on a GPU. Its arithmetic is checked on the host.
#include <cuda_runtime.h>

#include "tests/cuda/fp8_value.h"

namespace engram {
namespace {

constexpr unsigned kValues = 256;
constexpr unsigned kRowBytes = 264;
constexpr unsigned kValuesPerThread = 8;
constexpr unsigned kRowsPerBlock = 8;  // a warp each

// `packed` [rows, 264], 8-byte aligned, to `out` [rows, 256] of bf16, 16-byte aligned.
__global__ void Dequantize(const uint8_t* __restrict__ packed, unsigned rows,
                           uint16_t* __restrict__ out) {
  const unsigned row = blockIdx.x * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const uint8_t* const from = packed + static_cast<size_t>(row) * kRowBytes;
  const unsigned first = threadIdx.x * kValuesPerThread;
  const uint2 values = *reinterpret_cast<const uint2*>(from + first);
  const uint8_t scale = from[kValues + first / 32];
  union {
    uint4 vector;
    uint16_t bf16[kValuesPerThread];
  } made;
  for (unsigned i = 0; i < kValuesPerThread; ++i) {
    const unsigned word = i < 4 ? values.x : values.y;
    made.bf16[i] = Bf16OfFp8(static_cast<uint8_t>(word >> (i % 4 * 8)), scale);
  }
  *reinterpret_cast<uint4*>(out + static_cast<size_t>(row) * kValues + first) = made.vector;
}

}  // namespace

cudaError_t DequantizeOnDevice(const uint8_t* packed, unsigned rows, uint16_t* out,
                               cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const dim3 threads(kValues / kValuesPerThread, kRowsPerBlock);
  Dequantize<<<(rows + kRowsPerBlock - 1) / kRowsPerBlock, threads, 0, stream>>>(packed, rows, out);
  return cudaGetLastError();
}

}  // namespace engram

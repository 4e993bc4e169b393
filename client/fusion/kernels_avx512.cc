#if defined(__x86_64__)
#define ENGRAM_KERNEL_TARGET ENGRAM_TARGET_AVX512
#define ENGRAM_KERNEL_BYTES 64
#define ENGRAM_KERNEL_TILE 4
#include "client/fusion/kernel_loops.h"
#include "client/fusion/kernel_tables.h"

namespace engram {

const Kernels kAvx512Kernels = kKernels;

}  // namespace engram
#endif

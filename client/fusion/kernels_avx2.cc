#if defined(__x86_64__)
#define ENGRAM_KERNEL_TARGET ENGRAM_TARGET_AVX2
#define ENGRAM_KERNEL_BYTES 32
#define ENGRAM_KERNEL_TILE 2
#include "client/fusion/kernel_loops.h"
#include "client/fusion/kernel_tables.h"

namespace engram {

const Kernels kAvx2Kernels = kKernels;

}  // namespace engram
#endif

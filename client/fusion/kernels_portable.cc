#define ENGRAM_KERNEL_TARGET
#define ENGRAM_KERNEL_BYTES 16
#define ENGRAM_KERNEL_TILE 1
#include "client/fusion/kernel_loops.h"
#include "client/fusion/kernel_tables.h"

namespace engram {

const Kernels kPortableKernels = kKernels;

}  // namespace engram

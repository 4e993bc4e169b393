// What each kind of instructions has. Internal to kernels.cc.
#ifndef ENGRAM_CLIENT_FUSION_KERNEL_TABLES_H_
#define ENGRAM_CLIENT_FUSION_KERNEL_TABLES_H_

#include "client/fusion/kernels.h"

namespace engram {

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace engram

#endif  // ENGRAM_CLIENT_FUSION_KERNEL_TABLES_H_

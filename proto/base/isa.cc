#include "proto/base/isa.h"

namespace engram {
namespace {

std::vector<Isa> Detect() {
  std::vector<Isa> isas = {Isa::kPortable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) isas.push_back(Isa::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    isas.push_back(Isa::kAvx512);
  }
#endif
  return isas;
}

}  // namespace

const std::vector<Isa>& SupportedIsas() {
  static const auto* isas = new std::vector<Isa>(Detect());
  return *isas;
}

}  // namespace engram

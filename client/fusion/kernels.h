// Loops over f32 that a model's layers are made of, for each kind of vector instructions.
//
// All kinds give the same bits: sums have 16 lanes whatever a register holds, lanes are added in
// one order, and no product is fused with a sum. What is computed for a token does not depend on
// which other tokens are computed with it.
#ifndef ENGRAM_CLIENT_FUSION_KERNELS_H_
#define ENGRAM_CLIENT_FUSION_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "proto/base/isa.h"

namespace engram {

// Arrays of f32 are aligned as f32 is; those written overlap no others.
struct Kernels {
  // y[t, o] = sum over i of x[t, i] w[o, i]; x [tokens, in], w [out, in], y [tokens, out], dense.
  void (*matmul_f32)(const float* x, size_t tokens, size_t in, const float* w, size_t out,
                     float* y);
  // The same by bf16 weights.
  void (*matmul_bf16)(const float* x, size_t tokens, size_t in, const uint16_t* w, size_t out,
                      float* y);
  float (*dot)(const float* a, const float* b, size_t n);
  float (*dot3)(const float* a, const float* b, const float* c, size_t n);  // sum of a b c
  void (*add)(float* y, const float* x, size_t n);                          // y += x
  void (*add_scaled)(float* y, const float* x, float scale, size_t n);      // y += scale x
  void (*add_product)(float* y, const float* a, const float* b, size_t n);  // y += a b
  void (*scaled_product)(float* y, const float* a, const float* b, float scale,
                         size_t n);     // y = scale a b
  void (*exp)(float* x, size_t n);      // in place; within 2 ulp, 0 below -87
  void (*sigmoid)(float* x, size_t n);  // in place
  void (*silu)(float* x, size_t n);     // in place: x sigmoid(x)
  bool (*all_finite)(const float* x, size_t n);
};

// `isa` must be one of SupportedIsas().
const Kernels& KernelsOf(Isa isa);

}  // namespace engram

#endif  // ENGRAM_CLIENT_FUSION_KERNELS_H_

// The loops of kernels.h, by the compiler's vectors. Included by one file for each kind of
// instructions, which has set ENGRAM_KERNEL_TARGET (what functions are compiled with),
// ENGRAM_KERNEL_BYTES (of a register) and ENGRAM_KERNEL_TILE (tokens, and outputs, of the square
// that a matrix product computes at once: as much as stays in registers): vectors are taken apart
// before functions are inlined, so that each function needs its target itself.
#include <cstring>

#include "client/fusion/kernels.h"

namespace engram {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kParts = kLanes * sizeof(float) / ENGRAM_KERNEL_BYTES;
constexpr size_t kPartFloats = kLanes / kParts;
constexpr size_t kTile = ENGRAM_KERNEL_TILE;

using Floats __attribute__((vector_size(ENGRAM_KERNEL_BYTES), aligned(4), may_alias)) = float;
using Bits __attribute__((vector_size(ENGRAM_KERNEL_BYTES), aligned(4), may_alias)) = uint32_t;
using Words __attribute__((vector_size(ENGRAM_KERNEL_BYTES / 2), aligned(2), may_alias)) = uint16_t;

// Sums stay in registers only where loops over them are gone before arrays are looked at.
#define ENGRAM_UNROLL _Pragma("GCC unroll 16")
#define ENGRAM_LOOP [[gnu::always_inline]] ENGRAM_KERNEL_TARGET inline
#define ENGRAM_KERNEL ENGRAM_KERNEL_TARGET

// 16 values: those of one turn of a loop.
struct Lanes {
  Floats part[kParts];
};

ENGRAM_LOOP void Load(const float* from, Lanes& to) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) {
    to.part[p] = *reinterpret_cast<const Floats*>(from + p * kPartFloats);
  }
}

ENGRAM_LOOP void Load(const uint16_t* from, Lanes& to) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) {
    const Words words = *reinterpret_cast<const Words*>(from + p * kPartFloats);
    to.part[p] = reinterpret_cast<Floats>(__builtin_convertvector(words, Bits) << 16);
  }
}

ENGRAM_LOOP void Store(const Lanes& from, float* to) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) {
    *reinterpret_cast<Floats*>(to + p * kPartFloats) = from.part[p];
  }
}

// The last n < 16 values, zeros after them.
template <typename T>
ENGRAM_LOOP void LoadTail(const T* from, size_t n, Lanes& to) {
  T padded[kLanes] = {};
  std::memcpy(padded, from, n * sizeof(T));
  Load(padded, to);
}

ENGRAM_LOOP void StoreTail(const Lanes& from, size_t n, float* to) {
  float padded[kLanes];
  Store(from, padded);
  std::memcpy(to, padded, n * sizeof(float));
}

ENGRAM_LOOP float SumOf(const Lanes& lanes) {
  float values[kLanes];
  Store(lanes, values);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

template <size_t kTokens, size_t kOuts, typename Weight>
ENGRAM_LOOP void MultiplyTurn(const Lanes (&x)[kTokens], const Weight* w, size_t in, size_t tail,
                              Lanes (&sums)[kTokens][kOuts]) {
  ENGRAM_UNROLL
  for (size_t o = 0; o < kOuts; ++o) {
    Lanes weights;
    if (tail == 0) {
      Load(w + o * in, weights);
    } else {
      LoadTail(w + o * in, tail, weights);
    }
    ENGRAM_UNROLL
    for (size_t t = 0; t < kTokens; ++t) {
      ENGRAM_UNROLL
      for (size_t p = 0; p < kParts; ++p) {
        sums[t][o].part[p] += x[t].part[p] * weights.part[p];
      }
    }
  }
}

template <size_t kTokens, size_t kOuts, typename Weight>
ENGRAM_LOOP void MultiplyTile(const float* x, size_t in, const Weight* w, float* y, size_t out) {
  Lanes sums[kTokens][kOuts] = {};
  Lanes values[kTokens];
  size_t i = 0;
  for (; i + kLanes <= in; i += kLanes) {
    ENGRAM_UNROLL
    for (size_t t = 0; t < kTokens; ++t) Load(x + t * in + i, values[t]);
    MultiplyTurn<kTokens, kOuts>(values, w + i, in, 0, sums);
  }
  if (i < in) {
    ENGRAM_UNROLL
    for (size_t t = 0; t < kTokens; ++t) LoadTail(x + t * in + i, in - i, values[t]);
    MultiplyTurn<kTokens, kOuts>(values, w + i, in, in - i, sums);
  }
  ENGRAM_UNROLL
  for (size_t t = 0; t < kTokens; ++t) {
    ENGRAM_UNROLL
    for (size_t o = 0; o < kOuts; ++o) y[t * out + o] = SumOf(sums[t][o]);
  }
}

template <size_t kOuts, typename Weight>
ENGRAM_LOOP void MultiplyRows(const float* x, size_t tokens, size_t in, const Weight* w, float* y,
                              size_t out) {
  size_t t = 0;
  for (; t + kTile <= tokens; t += kTile) {
    MultiplyTile<kTile, kOuts>(x + t * in, in, w, y + t * out, out);
  }
  for (; t < tokens; ++t) MultiplyTile<1, kOuts>(x + t * in, in, w, y + t * out, out);
}

// A few outputs' weights stay in the core's cache while all tokens are multiplied with them.
template <typename Weight>
ENGRAM_LOOP void Multiply(const float* x, size_t tokens, size_t in, const Weight* w, size_t out,
                          float* y) {
  size_t o = 0;
  for (; o + kTile <= out; o += kTile) MultiplyRows<kTile>(x, tokens, in, w + o * in, y + o, out);
  for (; o < out; ++o) MultiplyRows<1>(x, tokens, in, w + o * in, y + o, out);
}

ENGRAM_KERNEL void MatMulF32(const float* x, size_t tokens, size_t in, const float* w, size_t out,
                             float* y) {
  Multiply(x, tokens, in, w, out, y);
}

ENGRAM_KERNEL void MatMulBf16(const float* x, size_t tokens, size_t in, const uint16_t* w,
                              size_t out, float* y) {
  Multiply(x, tokens, in, w, out, y);
}

ENGRAM_LOOP void AddProducts(const Lanes& a, const Lanes& b, Lanes& sums) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) sums.part[p] += a.part[p] * b.part[p];
}

ENGRAM_LOOP void MultiplyBy(const Lanes& by, Lanes& lanes) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) lanes.part[p] *= by.part[p];
}

ENGRAM_KERNEL float Dot(const float* a, const float* b, size_t n) {
  Lanes sums = {}, left, right;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(a + i, left);
    Load(b + i, right);
    AddProducts(left, right, sums);
  }
  LoadTail(a + i, n - i, left);
  LoadTail(b + i, n - i, right);
  AddProducts(left, right, sums);
  return SumOf(sums);
}

ENGRAM_KERNEL float Dot3(const float* a, const float* b, const float* c, size_t n) {
  Lanes sums = {}, left, right, third;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(a + i, left);
    Load(b + i, right);
    Load(c + i, third);
    MultiplyBy(right, left);
    AddProducts(left, third, sums);
  }
  LoadTail(a + i, n - i, left);
  LoadTail(b + i, n - i, right);
  LoadTail(c + i, n - i, third);
  MultiplyBy(right, left);
  AddProducts(left, third, sums);
  return SumOf(sums);
}

// Loops whose values have nothing to do with each other: compilers make vectors of them.
ENGRAM_KERNEL void Add(float* __restrict y, const float* __restrict x, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] += x[i];
}

ENGRAM_KERNEL void AddScaled(float* __restrict y, const float* __restrict x, float scale,
                             size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

ENGRAM_KERNEL void AddProduct(float* __restrict y, const float* __restrict a,
                              const float* __restrict b, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] += a[i] * b[i];
}

ENGRAM_KERNEL void ScaledProduct(float* __restrict y, const float* __restrict a,
                                 const float* __restrict b, float scale, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = scale * a[i] * b[i];
}

// exp(x) = 2^n exp(r) with n the integer nearest x / ln 2, and exp(r) by the polynomial of the
// Cephes library, whose coefficients these are. Adding 1.5 x 2^23 leaves n in the low bits.
ENGRAM_LOOP void ExpLanes(Lanes& lanes) {
  constexpr float kLowest = -87.0f, kHighest = 88.0f, kMagic = 12582912.0f;
  constexpr float kLog2E = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) {
    Floats x = lanes.part[p];
    const auto below = reinterpret_cast<Bits>(x < kLowest);
    const auto above = reinterpret_cast<Bits>(x > kHighest);
    const Floats highest = kHighest - Floats{};
    x = reinterpret_cast<Floats>((reinterpret_cast<Bits>(x) & ~above) |
                                 (reinterpret_cast<Bits>(highest) & above));
    const Floats shifted = x * kLog2E + kMagic;
    const Floats n = shifted - kMagic;
    const Floats r = x - n * kLn2High - n * kLn2Low;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const Bits power = (reinterpret_cast<Bits>(shifted) << 23) + (127u << 23);
    y = y * reinterpret_cast<Floats>(power);
    lanes.part[p] = reinterpret_cast<Floats>(reinterpret_cast<Bits>(y) & ~below);
  }
}

ENGRAM_LOOP void SigmoidLanes(Lanes& lanes) {
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) lanes.part[p] = -lanes.part[p];
  ExpLanes(lanes);
  ENGRAM_UNROLL
  for (size_t p = 0; p < kParts; ++p) lanes.part[p] = 1.0f / (1.0f + lanes.part[p]);
}

ENGRAM_LOOP void SiluLanes(Lanes& lanes) {
  Lanes gate = lanes;
  SigmoidLanes(gate);
  MultiplyBy(gate, lanes);
}

template <void kFunction(Lanes&)>
ENGRAM_LOOP void InPlace(float* x, size_t n) {
  Lanes lanes;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(x + i, lanes);
    kFunction(lanes);
    Store(lanes, x + i);
  }
  if (i == n) return;
  LoadTail(x + i, n - i, lanes);
  kFunction(lanes);
  StoreTail(lanes, n - i, x + i);
}

ENGRAM_KERNEL void Exp(float* x, size_t n) { InPlace<ExpLanes>(x, n); }
ENGRAM_KERNEL void Sigmoid(float* x, size_t n) { InPlace<SigmoidLanes>(x, n); }
ENGRAM_KERNEL void Silu(float* x, size_t n) { InPlace<SiluLanes>(x, n); }

ENGRAM_KERNEL bool AllFinite(const float* x, size_t n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t found = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    found |= uint32_t{(bits & kExponent) == kExponent};
  }
  return found == 0;
}

constexpr Kernels kKernels = {.matmul_f32 = MatMulF32,
                              .matmul_bf16 = MatMulBf16,
                              .dot = Dot,
                              .dot3 = Dot3,
                              .add = Add,
                              .add_scaled = AddScaled,
                              .add_product = AddProduct,
                              .scaled_product = ScaledProduct,
                              .exp = Exp,
                              .sigmoid = Sigmoid,
                              .silu = Silu,
                              .all_finite = AllFinite};

}  // namespace
}  // namespace engram

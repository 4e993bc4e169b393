#include "client/dequantize_float.h"

#include <bit>
#include <cstring>

namespace engram {
namespace {

struct FloatsJob {
  const uint8_t* in;
  size_t count;
  uint8_t* out;
};

struct Bf16ToF32 {
  using In = uint16_t;
  using Out = uint32_t;
  [[gnu::always_inline]] static Out Of(In value) { return uint32_t{value} << 16; }
};

struct F16ToF32 {
  using In = uint16_t;
  using Out = uint32_t;
  // A subnormal's fraction becomes a normal f32 as an integer, so that no flag of the process
  // flushes it, and is then divided by 2^24 in its exponent.
  [[gnu::always_inline]] static Out Of(In value) {
    const uint32_t magnitude = value & 0x7fffu;
    const uint32_t as_integer = std::bit_cast<uint32_t>(static_cast<float>(value & 0x7fff));
    const uint32_t is_subnormal = MaskIf(magnitude < 0x400);
    const uint32_t is_special = MaskIf(magnitude >= 0x7c00);  // infinity or NaN
    const uint32_t normal = (magnitude << 13) + ((127 - 15 + (is_special & (127 - 15))) << 23);
    const uint32_t subnormal = (as_integer - (24u << 23)) & MaskIf(magnitude != 0);
    return uint32_t{value} >> 15 << 31 | (subnormal & is_subnormal) | (normal & ~is_subnormal);
  }
};

struct F32ToBf16 {
  using In = uint32_t;
  using Out = uint16_t;
  [[gnu::always_inline]] static Out Of(In bits) { return Bf16OfF32Bits(bits); }
};

struct F16ToBf16 {
  using In = uint16_t;
  using Out = uint16_t;
  [[gnu::always_inline]] static Out Of(In value) { return Bf16OfF32Bits(F16ToF32::Of(value)); }
};

template <typename T>
struct Unaligned {
  using Type __attribute__((aligned(1), may_alias)) = T;
};

template <typename Conversion>
[[gnu::always_inline]] inline void Convert(const FloatsJob& job) {
  using In = typename Unaligned<typename Conversion::In>::Type;
  using Out = typename Unaligned<typename Conversion::Out>::Type;
  const In* __restrict in = reinterpret_cast<const In*>(job.in);
  Out* __restrict out = reinterpret_cast<Out*>(job.out);
  const size_t count = job.count;  // known to stay while `out` is written
  for (size_t i = 0; i < count; ++i) out[i] = Conversion::Of(in[i]);
}

template <typename Conversion>
void ConvertPortable(const FloatsJob& job) {
  Convert<Conversion>(job);
}
template <typename Conversion>
ENGRAM_TARGET_AVX2 void ConvertAvx2(const FloatsJob& job) {
  Convert<Conversion>(job);
}
template <typename Conversion>
ENGRAM_TARGET_AVX512 void ConvertAvx512(const FloatsJob& job) {
  Convert<Conversion>(job);
}

template <typename Conversion>
void ConvertWith(const FloatsJob& job, Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return ConvertPortable<Conversion>(job);
    case Isa::kAvx2:
      return ConvertAvx2<Conversion>(job);
    case Isa::kAvx512:
      return ConvertAvx512<Conversion>(job);
  }
}

}  // namespace

void ConvertFloats(ValueType from, ValueType to, const uint8_t* in, size_t count, uint8_t* out,
                   Isa isa) {
  const FloatsJob job{in, count, out};
  if (from == to) {
    std::memcpy(out, in, count * (to == ValueType::kF32 ? 4 : 2));
  } else if (from == ValueType::kBf16) {
    ConvertWith<Bf16ToF32>(job, isa);
  } else if (from == ValueType::kF32) {
    ConvertWith<F32ToBf16>(job, isa);
  } else if (to == ValueType::kF32) {
    ConvertWith<F16ToF32>(job, isa);
  } else {
    ConvertWith<F16ToBf16>(job, isa);
  }
}

}  // namespace engram

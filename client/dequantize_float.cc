#include "client/dequantize_float.h"

#include <bit>
#include <cstring>

namespace engram {
namespace {

// Values that go through local arrays at once: the compiler makes vector loops of them.
constexpr size_t kBlock = 64;

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
  // Without a jump. A subnormal's fraction becomes a normal f32 as an integer, so that no flag of
  // the process flushes it, and is then divided by 2^24 in its exponent.
  [[gnu::always_inline]] static Out Of(In value) {
    const uint32_t magnitude = value & 0x7fffu;
    const auto subnormal =
        std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude))) - (24u << 23);
    const uint32_t normal = (magnitude << 13) + ((127u - 15) << 23);
    const uint32_t special = (magnitude << 13) + ((255u - 31) << 23);  // infinity and NaN
    const uint32_t finite = magnitude < 0x400 ? subnormal : normal;
    const uint32_t any = magnitude >= 0x7c00 ? special : finite;
    return uint32_t{value} >> 15 << 31 | (magnitude == 0 ? 0 : any);
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

template <typename Conversion>
[[gnu::always_inline]] inline void Convert(const FloatsJob& job) {
  using In = typename Conversion::In;
  using Out = typename Conversion::Out;
  In in[kBlock];
  Out out[kBlock];
  size_t at = 0;
  for (; at + kBlock <= job.count; at += kBlock) {
    std::memcpy(in, job.in + at * sizeof(In), sizeof(in));
    for (size_t i = 0; i < kBlock; ++i) out[i] = Conversion::Of(in[i]);
    std::memcpy(job.out + at * sizeof(Out), out, sizeof(out));
  }
  for (; at < job.count; ++at) {
    std::memcpy(in, job.in + at * sizeof(In), sizeof(In));
    out[0] = Conversion::Of(in[0]);
    std::memcpy(job.out + at * sizeof(Out), out, sizeof(Out));
  }
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

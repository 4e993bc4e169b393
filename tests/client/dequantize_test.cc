#include "client/dequantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "tests/client/float_reference.h"
#include "tests/support/status_matchers.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace engram {
namespace {

using Code = absl::StatusCode;

const char* NameOf(Isa isa) {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512"};
  return kNames[static_cast<size_t>(isa)];
}

// Subnormal operands and results are zeros, and rounding goes up, as hosts with -ffast-math or an
// odd thread have it, while one lives.
class OddFloatingPoint {
 public:
#if defined(__x86_64__)
  OddFloatingPoint() : before_(_mm_getcsr()) {
    _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON | _MM_ROUND_UP);
  }
  ~OddFloatingPoint() { _mm_setcsr(before_); }

 private:
  const unsigned before_;
#elif defined(__aarch64__)
  OddFloatingPoint() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | 1u << 24 | 1u << 22));
  }
  ~OddFloatingPoint() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

// Rows of any layout, with what they must become.
struct Rows {
  RowLayout layout;
  size_t rows = 0;
  std::vector<uint8_t> values = {};  // [rows, value_bytes]
  std::vector<uint8_t> scales = {};  // [rows, scales]
  std::vector<uint32_t> f32 = {};    // [rows, values]
  std::vector<uint16_t> bf16 = {};

  std::vector<uint8_t> Packed() const {
    std::vector<uint8_t> packed;
    const size_t value_bytes = layout.value_bytes();
    for (size_t row = 0; row < rows; ++row) {
      packed.insert(packed.end(), values.data() + row * value_bytes,
                    values.data() + (row + 1) * value_bytes);
      packed.insert(packed.end(), scales.data() + row * layout.scales,
                    scales.data() + (row + 1) * layout.scales);
    }
    return packed;
  }

  double ValueAt(size_t index) const {
    switch (layout.value_type) {
      case ValueType::kFp8E4M3: {
        const double value = ValueOfE4m3(values[index]);
        if (layout.scales == 0) return value;
        return value * ValueOfScale(scales[index / (layout.values / layout.scales)]);
      }
      case ValueType::kBf16:
      case ValueType::kF16: {
        uint16_t bits;
        std::memcpy(&bits, values.data() + index * 2, 2);
        return layout.value_type == ValueType::kF16 ? ValueOfF16(bits) : ValueOfBf16(bits);
      }
      case ValueType::kF32: {
        uint32_t bits;
        std::memcpy(&bits, values.data() + index * 4, 4);
        return ValueOfBits(bits, 8, 23, false);
      }
    }
    return 0;
  }
  void Expect() {
    for (size_t i = 0; i < rows * layout.values; ++i) {
      f32.push_back(F32Bits(ValueAt(i)));
      bf16.push_back(Bf16Bits(ValueAt(i)));
    }
  }
};

// Bit for bit, but that any NaN stands for any other.
template <typename Bits>
void ExpectSame(const uint8_t* got, const std::vector<Bits>& expected) {
  size_t wrong = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, got + i * sizeof(Bits), sizeof(Bits));
    const bool same = IsNan(expected[i]) ? IsNan(bits) : bits == expected[i];
    if (same || ++wrong > 5) continue;
    ADD_FAILURE() << "value " << i << " is " << std::hex << bits << ", expected " << expected[i];
  }
  EXPECT_EQ(wrong, 0u);
}

// Rows and results start `shift` bytes behind an aligned address; what surrounds results stays.
template <typename Bits>
void ExpectDequantized(const Rows& rows, ValueType type, const std::vector<Bits>& expected,
                       bool split, Isa isa, size_t shift) {
  constexpr size_t kMargin = 64;
  constexpr uint8_t kUntouched = 0xa5;
  SCOPED_TRACE(testing::Message() << NameOf(isa) << " to " << ValueTypeName(type) << " split "
                                  << split << " shift " << shift);
  const auto shifted = [&](const std::vector<uint8_t>& bytes) {
    std::vector<uint8_t> copy(shift, 0);
    copy.insert(copy.end(), bytes.begin(), bytes.end());
    return copy;
  };
  const std::vector<uint8_t> in = shifted(split ? rows.values : rows.Packed());
  const std::vector<uint8_t> scales = shifted(rows.scales);
  const size_t out_bytes = expected.size() * sizeof(Bits);
  std::vector<uint8_t> out(shift + out_bytes + kMargin, kUntouched);
  const std::span<uint8_t> to = std::span(out).subspan(shift, out_bytes);
  const auto from = std::span(in).subspan(shift);
  const absl::Status status =
      split ? DequantizeSplitRows(rows.layout, rows.rows, from, std::span(scales).subspan(shift),
                                  type, to, isa)
            : DequantizeRows(rows.layout, rows.rows, from, type, to, isa);
  ASSERT_THAT(status, IsOk());
  ExpectSame(to.data(), expected);
  const auto untouched = [](uint8_t byte) { return byte == kUntouched; };
  EXPECT_TRUE(std::all_of(out.begin(), out.begin() + static_cast<ptrdiff_t>(shift), untouched));
  EXPECT_TRUE(std::all_of(out.end() - kMargin, out.end(), untouched));
}

void ExpectAll(const Rows& rows, size_t shift) {
  for (const Isa isa : SupportedIsas()) {
    for (const bool split : {false, true}) {
      if (split && rows.layout.scales == 0) continue;
      ExpectDequantized(rows, ValueType::kF32, rows.f32, split, isa, shift);
      ExpectDequantized(rows, ValueType::kBf16, rows.bf16, split, isa, shift);
    }
  }
}

// Every (value, scale) pair: 256 rows of 8 blocks, a block 32 values of one scale, the blocks in
// their order or in that of a seed.
Rows EveryPair(uint32_t seed) {
  Rows rows{.layout = PackedFp8Layout(256), .rows = 256};
  std::vector<size_t> blocks(size_t{256} * 8);
  std::iota(blocks.begin(), blocks.end(), size_t{0});
  if (seed != 0) std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
  for (const size_t block : blocks) {
    rows.scales.push_back(static_cast<uint8_t>(block / 8));
    for (size_t i = 0; i < 32; ++i) {
      rows.values.push_back(static_cast<uint8_t>(block % 8 * 32 + i));
    }
  }
  rows.Expect();
  return rows;
}

TEST(Dequantize, EveryPairOfValueAndScale) {
  for (const uint32_t seed : {0u, 1u, 2u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    ExpectAll(EveryPair(seed), 0);
  }
}

TEST(Dequantize, ReferenceKnowsTheSpecifiedCases) {
  EXPECT_EQ(F32Bits(ValueOfE4m3(0x7e) * ValueOfScale(127)), 0x43e00000u);  // 448
  EXPECT_EQ(F32Bits(ValueOfE4m3(0x01) * ValueOfScale(0)), 1u << 13);       // 2^-136
  EXPECT_EQ(F32Bits(ValueOfE4m3(0x80) * ValueOfScale(0)), 0x80000000u);
  EXPECT_EQ(F32Bits(ValueOfE4m3(0xfe) * ValueOfScale(254)), 0xff800000u);
  EXPECT_EQ(Bf16Bits(ValueOfE4m3(0x01) * ValueOfScale(0)), 0u);
  EXPECT_EQ(Bf16Bits(ValueOfE4m3(0x06) * ValueOfScale(1)), 2u);  // 1.5 of the smallest: to even
  EXPECT_EQ(Bf16Bits(ValueOfE4m3(0x05) * ValueOfScale(1)), 1u);
  EXPECT_TRUE(IsNan(F32Bits(ValueOfE4m3(0xff) * ValueOfScale(127))));
  EXPECT_TRUE(IsNan(F32Bits(ValueOfE4m3(0x00) * ValueOfScale(255))));
  EXPECT_TRUE(IsNan(Bf16Bits(ValueOfE4m3(0x7f))));
}

// Every 16-bit pattern of a type, in rows of 256.
Rows EveryPattern(ValueType type) {
  Rows rows{.layout = {.value_type = type, .values = 256}, .rows = 256};
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    rows.values.push_back(static_cast<uint8_t>(bits));
    rows.values.push_back(static_cast<uint8_t>(bits >> 8));
  }
  rows.Expect();
  return rows;
}

TEST(Dequantize, EveryBf16AndF16) {
  ExpectAll(EveryPattern(ValueType::kBf16), 0);
  ExpectAll(EveryPattern(ValueType::kF16), 0);
}

// Every upper half, with lower halves below, at and above the middle between two bf16.
Rows F32Patterns() {
  Rows rows{.layout = {.value_type = ValueType::kF32, .values = 512}, .rows = 1024};
  for (uint32_t upper = 0; upper < 65536; ++upper) {
    for (const uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, upper, ~upper}) {
      for (int shift = 0; shift < 32; shift += 8) {
        rows.values.push_back(static_cast<uint8_t>((upper << 16 | (lower & 0xffff)) >> shift));
      }
    }
  }
  rows.Expect();
  return rows;
}

TEST(Dequantize, F32OfEveryUpperHalf) { ExpectAll(F32Patterns(), 0); }

TEST(Dequantize, NothingIsFlushedWhateverTheProcessHasSet) {
  const Rows all[] = {EveryPair(3), EveryPattern(ValueType::kBf16), EveryPattern(ValueType::kF16),
                      F32Patterns()};  // expected before anything is set
  const OddFloatingPoint odd;
  volatile float smallest = 1.17549435e-38f;
  ASSERT_EQ(smallest / 2, 0.0f) << "subnormal results are not flushed here: nothing is shown";
  for (const Rows& rows : all) ExpectAll(rows, 0);
}

Rows RandomRows(RowLayout layout, size_t rows, uint32_t seed) {
  std::mt19937 random(seed);
  Rows made{.layout = layout, .rows = rows};
  for (size_t i = 0; i < rows * layout.value_bytes(); ++i) {
    made.values.push_back(static_cast<uint8_t>(random()));
  }
  for (size_t i = 0; i < rows * layout.scales; ++i) {
    // Plain ones for the most part, so that odd ones stand beside them.
    made.scales.push_back(static_cast<uint8_t>(random() % 4 == 0 ? random() : 100 + random() % 50));
  }
  made.Expect();
  return made;
}

TEST(Dequantize, RowsOfAnyLengthAndNumberAtAnyAddress) {
  uint32_t seed = 10;
  for (const size_t rows : {0u, 1u, 2u, 3u, 7u, 64u}) {
    for (const uint32_t values :
         {1u, 7u, 31u, 32u, 33u, 63u, 64u, 65u, 95u, 96u, 127u, 160u, 256u}) {
      for (const ValueType type :
           {ValueType::kFp8E4M3, ValueType::kBf16, ValueType::kF16, ValueType::kF32}) {
        SCOPED_TRACE(testing::Message() << rows << " rows of " << values << " "
                                        << ValueTypeName(type) << ", seed " << seed);
        ExpectAll(RandomRows({.value_type = type, .values = values}, rows, seed), seed % 65);
        ++seed;
      }
    }
  }
}

TEST(Dequantize, ScalesOfAnyNumberOfValues) {
  uint32_t seed = 1000;
  for (const uint32_t group : {1u, 3u, 8u, 16u, 32u, 48u, 64u, 96u, 128u}) {
    for (const uint32_t scales : {1u, 2u, 3u, 5u, 8u}) {
      SCOPED_TRACE(testing::Message() << scales << " scales of " << group << ", seed " << seed);
      const RowLayout layout{ValueType::kFp8E4M3, group * scales, ScaleType::kUe8m0, scales};
      ExpectAll(RandomRows(layout, 5, seed), seed % 65);
      ++seed;
    }
  }
  ExpectAll(RandomRows({ValueType::kFp8E4M3, 65536, ScaleType::kUe8m0, 2}, 2, seed), 1);
  ExpectAll(RandomRows({.value_type = ValueType::kFp8E4M3, .values = 65535}, 2, seed), 1);
}

TEST(Dequantize, RowsThatNobodyHasAreZeros) {
  Rows rows{.layout = PackedFp8Layout(256), .rows = 3};
  rows.values.assign(size_t{3} * 256, 0);
  rows.scales.assign(size_t{3} * 8, 0);
  rows.f32.assign(size_t{3} * 256, 0);
  rows.bf16.assign(size_t{3} * 256, 0);
  ExpectAll(rows, 0);
}

// Blocks of zeros are spared the slow way; that of a NaN scale must not be.
TEST(Dequantize, BlocksOfZerosAtEveryScale) {
  for (const uint8_t zero : {uint8_t{0x00}, uint8_t{0x80}}) {
    Rows rows{.layout = PackedFp8Layout(32), .rows = 256};
    rows.values.assign(size_t{256} * 32, zero);
    for (int scale = 0; scale < 256; ++scale) rows.scales.push_back(static_cast<uint8_t>(scale));
    rows.Expect();
    ExpectAll(rows, 0);
  }
}

TEST(Dequantize, BadArgumentsAreNamed) {
  const RowLayout packed = PackedFp8Layout(64);
  const std::vector<uint8_t> in(2 * 66);
  std::vector<uint8_t> out(2 * 64 * 4, 0xa5);
  const std::vector<uint8_t> before = out;
  const std::span<uint8_t> to(out);
  const auto rows = [&](RowLayout layout, size_t count, std::span<const uint8_t> from,
                        ValueType type, std::span<uint8_t> into) {
    return DequantizeRows(layout, count, from, type, into);
  };
  EXPECT_THAT(
      rows(packed, 2, in, ValueType::kFp8E4M3, to),
      StatusIs(Code::kInvalidArgument, "rows can be dequantized to bf16 and f32, not to fp8_e4m3"));
  EXPECT_THAT(rows(packed, 2, in, ValueType::kF16, to),
              StatusIs(Code::kInvalidArgument, "not to f16"));
  EXPECT_THAT(rows({ValueType::kBf16, 32, ScaleType::kUe8m0, 1}, 2, in, ValueType::kF32, to),
              StatusIs(Code::kInvalidArgument, "rows of bf16 with ue8m0 scales cannot be"));
  EXPECT_THAT(rows({ValueType::kFp8E4M3, 0, ScaleType::kNone, 0}, 2, in, ValueType::kF32, to),
              StatusIs(Code::kInvalidArgument, "row layout has 0 values"));
  EXPECT_THAT(rows({static_cast<ValueType>(9), 4, ScaleType::kNone, 0}, 2, in, ValueType::kF32, to),
              StatusIs(Code::kInvalidArgument, "unknown value or scale type"));
  EXPECT_THAT(rows(packed, 2, std::span(in).first(131), ValueType::kF32, to),
              StatusIs(Code::kInvalidArgument, "`packed` has 131 bytes, expected 2 rows of 66"));
  EXPECT_THAT(rows(packed, 1, in, ValueType::kF32, to.first(256)),
              StatusIs(Code::kInvalidArgument, "`packed` has 132 bytes, expected 1 rows of 66"));
  EXPECT_THAT(rows(packed, 2, in, ValueType::kF32, to.first(511)),
              StatusIs(Code::kInvalidArgument, "`out` has 511 bytes, expected 2 rows of 256"));
  EXPECT_THAT(rows(packed, 2, in, ValueType::kBf16, to),
              StatusIs(Code::kInvalidArgument, "`out` has 512 bytes, expected 2 rows of 128"));
  EXPECT_THAT(rows(packed, size_t{1} << 63, in, ValueType::kF32, to),
              StatusIs(Code::kInvalidArgument, "`packed` has 132 bytes"));
  EXPECT_EQ(out, before);
}

TEST(Dequantize, BadArgumentsOfScalesApartAreNamed) {
  const RowLayout packed = PackedFp8Layout(64);
  const std::vector<uint8_t> values(2 * 64), scales(2 * 2);
  std::vector<uint8_t> out(2 * 64 * 4, 0xa5);
  const std::vector<uint8_t> before = out;
  EXPECT_THAT(
      DequantizeSplitRows(packed, 2, std::span(values).first(127), scales, ValueType::kF32, out),
      StatusIs(Code::kInvalidArgument, "`values` has 127 bytes, expected 2 rows of 64"));
  EXPECT_THAT(
      DequantizeSplitRows(packed, 2, values, std::span(scales).first(3), ValueType::kF32, out),
      StatusIs(Code::kInvalidArgument, "`scales` has 3 bytes, expected 2 rows of 2"));
  EXPECT_THAT(DequantizeSplitRows({.value_type = ValueType::kFp8E4M3, .values = 64}, 2, values, {},
                                  ValueType::kF32, out),
              StatusIs(Code::kInvalidArgument, "the layout's rows have none"));
  EXPECT_EQ(out, before);
}

TEST(Dequantize, OverlapIsRefused) {
  std::vector<uint8_t> buffer(1000);
  const std::span<uint8_t> all(buffer);
  const RowLayout packed = PackedFp8Layout(64);
  EXPECT_THAT(DequantizeRows(packed, 1, all.subspan(255, 66), ValueType::kF32, all.first(256)),
              StatusIs(Code::kInvalidArgument, "`out` overlaps `packed`"));
  EXPECT_THAT(DequantizeRows(packed, 1, all.subspan(256, 66), ValueType::kF32, all.first(256)),
              IsOk());
  EXPECT_THAT(DequantizeRows(packed, 1, all.first(66), ValueType::kF32, all.subspan(65, 256)),
              StatusIs(Code::kInvalidArgument, "`out` overlaps `packed`"));
  EXPECT_THAT(DequantizeSplitRows(packed, 1, all.subspan(500, 64), all.subspan(255, 2),
                                  ValueType::kF32, all.first(256)),
              StatusIs(Code::kInvalidArgument, "`out` overlaps `scales`"));
}

}  // namespace
}  // namespace engram

// Rows to values through the C ABI: that each argument goes where it says. What values come of it,
// tests/client/dequantize_test.cc holds.
#include <bit>
#include <cmath>

#include "tests/client_c/c_fixture.h"

namespace engram {
namespace {

constexpr size_t kRows = 2, kValues = 256, kScales = 8;

class DequantizeCTest : public ClientCTest {
 protected:
  DequantizeCTest() : values_(kRows * kValues, 0x38), scales_(kRows * kScales) {
    for (size_t i = 0; i < scales_.size(); ++i) scales_[i] = static_cast<uint8_t>(120 + i);
    for (size_t row = 0; row < kRows; ++row) {
      packed_.insert(packed_.end(), kValues, 0x38);  // 1.0
      packed_.insert(packed_.end(), scales_.begin() + row * kScales,
                     scales_.begin() + (row + 1) * kScales);
    }
  }
  template <typename T>
  Said Packed(int32_t type, std::vector<T>& out) {
    return Said(engram_dequantize_rows(client_.get(), kRows, packed_.data(), packed_.size(),
                                       nullptr, 0, type, reinterpret_cast<uint8_t*>(out.data()),
                                       out.size() * sizeof(T)));
  }
  float Want(size_t i) const { return std::ldexp(1.0f, scales_[i / (kValues / kScales)] - 127); }

  std::vector<uint8_t> packed_, values_, scales_;
};

TEST_F(DequantizeCTest, WholeRowsAndScalesApart) {
  std::vector<float> whole(kRows * kValues), apart(kRows * kValues);
  ASSERT_THAT(Packed(ENGRAM_VALUE_F32, whole), Is(ENGRAM_OK, ""));
  for (size_t i = 0; i < whole.size(); ++i) ASSERT_EQ(whole[i], Want(i)) << i;
  ASSERT_FINE(engram_dequantize_rows(
      client_.get(), kRows, values_.data(), values_.size(), scales_.data(), scales_.size(),
      ENGRAM_VALUE_F32, reinterpret_cast<uint8_t*>(apart.data()), apart.size() * sizeof(float)));
  EXPECT_EQ(whole, apart);
  std::vector<uint16_t> half(kRows * kValues);
  ASSERT_THAT(Packed(ENGRAM_VALUE_BF16, half), Is(ENGRAM_OK, ""));
  for (size_t i = 0; i < half.size(); ++i) {
    ASSERT_EQ(half[i], std::bit_cast<uint32_t>(Want(i)) >> 16) << i;
  }
}

TEST_F(DequantizeCTest, WhatIsWrongIsNamed) {
  std::vector<float> out(kRows * kValues, 7);
  EXPECT_THAT(Packed(ENGRAM_VALUE_F16, out), IsInvalid("`type` is 3"));
  EXPECT_THAT(Packed(0, out), IsInvalid("`type` is 0"));
  EXPECT_THAT(Packed(ENGRAM_VALUE_BF16, out), IsInvalid("2048"));
  EXPECT_EQ(out, std::vector<float>(kRows * kValues, 7));
  auto* const bytes = reinterpret_cast<uint8_t*>(out.data());
  const size_t size = out.size() * sizeof(float);
  EXPECT_THAT(Said(engram_dequantize_rows(nullptr, kRows, packed_.data(), packed_.size(), nullptr,
                                          0, ENGRAM_VALUE_F32, bytes, size)),
              IsInvalid("`client` is NULL"));
  EXPECT_THAT(Said(engram_dequantize_rows(client_.get(), kRows, nullptr, packed_.size(), nullptr, 0,
                                          ENGRAM_VALUE_F32, bytes, size)),
              IsInvalid("`packed`"));
  EXPECT_THAT(Said(engram_dequantize_rows(client_.get(), kRows, packed_.data(), packed_.size(),
                                          nullptr, 8, ENGRAM_VALUE_F32, bytes, size)),
              IsInvalid("`scales`"));
  EXPECT_THAT(Said(engram_dequantize_rows(client_.get(), kRows, packed_.data(), packed_.size(),
                                          nullptr, 0, ENGRAM_VALUE_F32, nullptr, size)),
              IsInvalid("`out`"));
}

}  // namespace
}  // namespace engram

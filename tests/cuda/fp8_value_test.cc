// The kernel's arithmetic against the CPU's, which is held against the formats' definitions.
#include "tests/cuda/fp8_value.h"

#include <gtest/gtest.h>

#include <vector>

#include "client/dequantize.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(Fp8Value, EveryPairAsOnTheCpu) {
  const RowLayout layout = PackedFp8Layout(256);
  for (unsigned scale = 0; scale < 256; ++scale) {
    std::vector<uint8_t> row(264, static_cast<uint8_t>(scale));
    for (unsigned value = 0; value < 256; ++value) row[value] = static_cast<uint8_t>(value);
    std::vector<uint8_t> out(512);
    ASSERT_THAT(DequantizeRows(layout, 1, row, ValueType::kBf16, out), IsOk());
    for (unsigned value = 0; value < 256; ++value) {
      const auto expected = static_cast<uint16_t>(out[2 * value] | out[2 * value + 1] << 8);
      const uint16_t got = Bf16OfFp8(static_cast<uint8_t>(value), static_cast<uint8_t>(scale));
      if ((expected & 0x7fff) > 0x7f80) {
        EXPECT_GT(got & 0x7fff, 0x7f80) << "value " << value << " scale " << scale;
      } else {
        EXPECT_EQ(got, expected) << "value " << value << " scale " << scale;
      }
    }
  }
}

}  // namespace
}  // namespace engram

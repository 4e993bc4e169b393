#include "client/scatter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace engram {
namespace {

TEST(RowScatter, RowsCutAnywhereComeToTheirPlaces) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  constexpr size_t kRowBytes = 7;
  const std::vector<uint32_t> positions = {4, 0, 3, 1, 6};
  std::vector<uint8_t> stream(positions.size() * kRowBytes);
  std::iota(stream.begin(), stream.end(), uint8_t{1});
  for (int round = 0; round < 200; ++round) {
    std::vector<uint8_t> out(7 * kRowBytes, 0);
    RowScatter scatter(positions.data(), positions.size(), kRowBytes, out.data());
    for (size_t done = 0; done < stream.size();) {
      const size_t size = std::min<size_t>(random() % 20, stream.size() - done);
      ASSERT_TRUE(scatter.Append(stream.data() + done, size));
      done += size;
      ASSERT_EQ(scatter.bytes_left(), stream.size() - done);
    }
    std::vector<uint8_t> expected(out.size(), 0);
    for (size_t i = 0; i < positions.size(); ++i) {
      std::copy_n(stream.begin() + static_cast<ptrdiff_t>(i * kRowBytes), kRowBytes,
                  expected.begin() + static_cast<ptrdiff_t>(positions[i] * kRowBytes));
    }
    ASSERT_EQ(out, expected);
  }
}

TEST(ScatterRows, EverySizeByEveryInstructionSet) {
  std::mt19937_64 random(1);
  for (const size_t row_bytes : {128, 160, 256, 264, 320, 512, 1, 33, 66, 100, 1056}) {
    std::vector<uint32_t> positions(50);
    std::iota(positions.begin(), positions.end(), 0u);
    std::shuffle(positions.begin(), positions.end(), random);
    std::vector<uint8_t> rows(positions.size() * row_bytes);
    for (uint8_t& byte : rows) byte = static_cast<uint8_t>(random());
    // One byte before and one row behind must stay as they are.
    const std::vector<uint8_t> out(1 + rows.size() + row_bytes, 0xAB);
    std::vector<uint8_t> expected = out;
    for (size_t i = 0; i < rows.size(); ++i) {
      expected[1 + positions[i / row_bytes] * row_bytes + i % row_bytes] = rows[i];
    }
    for (const Isa isa : SupportedIsas()) {
      std::vector<uint8_t> got = out;
      ScatterRows(rows.data(), row_bytes, positions.data(), positions.size(), got.data() + 1, isa);
      EXPECT_EQ(got, expected) << row_bytes << " bytes, isa " << static_cast<int>(isa);
    }
  }
}

TEST(RowScatter, RefusesMoreThanItsRowsAndCopiesNothingOfIt) {
  std::vector<uint8_t> out(8, 0);
  RowScatter scatter(nullptr, 2, 4, out.data());
  const std::vector<uint8_t> stream(9, 0xAB);
  EXPECT_FALSE(scatter.Append(stream.data(), 9));
  EXPECT_EQ(out, std::vector<uint8_t>(8, 0));
  EXPECT_TRUE(scatter.Append(stream.data(), 8));
  EXPECT_FALSE(scatter.Append(stream.data(), 1));
}

}  // namespace
}  // namespace engram

#include "client/scatter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace engram {
namespace {

constexpr size_t kRowBytes = 7;
constexpr size_t kValueBytes = 5;
constexpr uint32_t kColumns = 3;
constexpr uint32_t kTokens = 4;

// A target of [kTokens, kColumns] rows in either order, whole or apart, with the memory behind it.
struct Buffer {
  Buffer(RowOrder order, bool split) : values(Places() * (split ? kValueBytes : kRowBytes), 0) {
    if (split) scales.assign(Places() * (kRowBytes - kValueBytes), 0);
    target = {.values = values.data(),
              .scales = split ? scales.data() : nullptr,
              .row_bytes = kRowBytes,
              .value_bytes = split ? kValueBytes : kRowBytes,
              .order = order,
              .columns = kColumns,
              .tokens = kTokens};
  }
  static size_t Places() { return size_t{kColumns} * kTokens; }

  // Byte `byte` of the row of that position.
  uint8_t& At(uint32_t position, size_t byte) {
    const size_t token = position / kColumns, column = position % kColumns;
    const size_t place =
        target.order == RowOrder::kTokenMajor ? position : column * kTokens + token;
    if (byte < target.value_bytes) return values[place * target.value_bytes + byte];
    return scales[place * (kRowBytes - kValueBytes) + byte - kValueBytes];
  }

  std::vector<uint8_t> values, scales;
  RowTarget target;
};

template <typename Test>
void ForEveryTarget(Test test) {
  for (const RowOrder order : {RowOrder::kTokenMajor, RowOrder::kHeadMajor}) {
    for (const bool split : {false, true}) {
      SCOPED_TRACE(testing::Message() << "order " << static_cast<int>(order) << " split " << split);
      test(order, split);
    }
  }
}

// Rows for some positions, in this order, and without positions for those from the second on.
const std::vector<uint32_t>& Positions() {
  static const auto* positions = new std::vector<uint32_t>{4, 0, 11, 1, 6};
  return *positions;
}
constexpr size_t kFirst = 2;

std::vector<uint8_t> Stream() {
  std::vector<uint8_t> stream(Positions().size() * kRowBytes);
  std::iota(stream.begin(), stream.end(), uint8_t{1});
  return stream;
}

void ExpectScattered(Buffer& got, RowOrder order, bool split, bool with_positions) {
  const std::vector<uint8_t> stream = Stream();
  Buffer expected(order, split);
  for (size_t i = 0; i < stream.size(); ++i) {
    const size_t row = i / kRowBytes;
    expected.At(with_positions ? Positions()[row] : static_cast<uint32_t>(kFirst + row),
                i % kRowBytes) = stream[i];
  }
  EXPECT_EQ(got.values, expected.values);
  EXPECT_EQ(got.scales, expected.scales);
}

TEST(RowScatter, EveryCutIntoTwoForEveryTarget) {
  const std::vector<uint8_t> stream = Stream();
  ForEveryTarget([&](RowOrder order, bool split) {
    for (const bool with_positions : {true, false}) {
      for (size_t cut = 0; cut <= stream.size(); ++cut) {
        Buffer buffer(order, split);
        RowScatter scatter(with_positions ? Positions().data() : nullptr, kFirst,
                           Positions().size(), buffer.target);
        ASSERT_TRUE(scatter.Append(stream.data(), cut));
        ASSERT_EQ(scatter.bytes_left(), stream.size() - cut);
        ASSERT_TRUE(scatter.Append(stream.data() + cut, stream.size() - cut));
        ExpectScattered(buffer, order, split, with_positions);
      }
    }
  });
}

TEST(RowScatter, RowsCutAnywhereComeToTheirPlaces) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  const std::vector<uint8_t> stream = Stream();
  ForEveryTarget([&](RowOrder order, bool split) {
    for (int round = 0; round < 200; ++round) {
      Buffer buffer(order, split);
      RowScatter scatter(Positions().data(), 0, Positions().size(), buffer.target);
      for (size_t done = 0; done < stream.size();) {
        const size_t size = std::min<size_t>(random() % 20, stream.size() - done);
        ASSERT_TRUE(scatter.Append(stream.data() + done, size));
        done += size;
      }
      ExpectScattered(buffer, order, split, true);
    }
  });
}

// More rows than are placed at once.
TEST(RowScatter, ManyRowsOfOneAppend) {
  constexpr uint32_t kMany = 500;
  std::vector<uint8_t> rows(kMany * 264), values(kMany * 256), scales(kMany * 8);
  std::mt19937_64 random(1);
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>(random());
  const RowTarget target{.values = values.data(),
                         .scales = scales.data(),
                         .row_bytes = 264,
                         .value_bytes = 256,
                         .order = RowOrder::kHeadMajor,
                         .columns = 5,
                         .tokens = 100};
  RowScatter scatter(nullptr, 0, kMany, target);
  ASSERT_TRUE(scatter.Append(rows.data(), rows.size()));
  for (uint32_t i = 0; i < kMany; ++i) {
    const size_t place = i % 5 * 100 + i / 5;
    ASSERT_TRUE(std::equal(&values[place * 256], &values[place * 256] + 256, &rows[i * 264]));
    ASSERT_TRUE(std::equal(&scales[place * 8], &scales[place * 8] + 8, &rows[i * 264 + 256]));
  }
}

TEST(RowTarget, ZeroesOneRowAndNoOther) {
  ForEveryTarget([&](RowOrder order, bool split) {
    for (uint32_t position = 0; position < Buffer::Places(); ++position) {
      Buffer buffer(order, split), expected(order, split);
      for (Buffer* each : {&buffer, &expected}) {
        std::fill(each->values.begin(), each->values.end(), uint8_t{0xAB});
        std::fill(each->scales.begin(), each->scales.end(), uint8_t{0xAB});
      }
      for (size_t byte = 0; byte < kRowBytes; ++byte) expected.At(position, byte) = 0;
      buffer.target.ZeroRow(position);
      ASSERT_EQ(buffer.values, expected.values);
      ASSERT_EQ(buffer.scales, expected.scales);
    }
  });
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
      ScatterRows(rows.data(), row_bytes, row_bytes, positions.data(), positions.size(),
                  got.data() + 1, isa);
      EXPECT_EQ(got, expected) << row_bytes << " bytes, isa " << static_cast<int>(isa);
    }
  }
}

TEST(RowScatter, RefusesMoreThanItsRowsAndCopiesNothingOfIt) {
  std::vector<uint8_t> out(8, 0);
  const RowTarget target = RowTarget::Rows(out.data(), 4);
  RowScatter scatter(nullptr, 0, 2, target);
  const std::vector<uint8_t> stream(9, 0xAB);
  EXPECT_FALSE(scatter.Append(stream.data(), 9));
  EXPECT_EQ(out, std::vector<uint8_t>(8, 0));
  EXPECT_TRUE(scatter.Append(stream.data(), 8));
  EXPECT_FALSE(scatter.Append(stream.data(), 1));
}

}  // namespace
}  // namespace engram

#include "storage/gather.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace engram {
namespace {

constexpr uint64_t kTableRows = 1000;

// Rows [base, base + 1000) of any size and count against a loop that copies byte by byte.
template <typename Id>
void ExpectGathers(size_t row_bytes, size_t count, Id base) {
  SCOPED_TRACE(testing::Message() << row_bytes << " bytes, " << count << " ids of " << sizeof(Id)
                                  << " bytes from " << base);
  constexpr Id kNone = static_cast<Id>(~Id{0});
  std::mt19937_64 random(row_bytes * 1000 + count);
  std::vector<uint8_t> table(kTableRows * row_bytes);
  for (uint8_t& byte : table) byte = static_cast<uint8_t>(random());
  std::vector<Id> ids(count);
  for (Id& id : ids) {
    id = random() % 8 == 0 ? kNone : static_cast<Id>(base + random() % kTableRows);
  }
  if (count > 1) ids[0] = base, ids[1] = static_cast<Id>(base + kTableRows - 1);
  // One row more than asked for: it must stay as it is, and the start is odd on purpose.
  const std::vector<uint8_t> out(1 + (count + 1) * row_bytes, 0xAB);
  std::vector<uint8_t> expected = out;
  for (size_t i = 0; i < count; ++i) {
    for (size_t b = 0; b < row_bytes; ++b) {
      expected[1 + i * row_bytes + b] =
          ids[i] == kNone ? 0 : table[static_cast<size_t>(ids[i] - base) * row_bytes + b];
    }
  }
  for (const Isa isa : SupportedIsas()) {
    std::vector<uint8_t> got = out;
    GatherRows<Id>(table.data(), row_bytes, ids.data(), count, base, got.data() + 1, isa);
    EXPECT_EQ(got, expected) << "isa " << static_cast<int>(isa);
  }
}

TEST(GatherTest, EverySizeAndCount) {
  for (const size_t row_bytes : {128, 160, 256, 264, 320, 512, 1, 33, 66, 100, 1056}) {
    for (const size_t count : {0, 1, 2, 31, 32, 33, 64, 500}) {
      ExpectGathers<uint32_t>(row_bytes, count, 0);
      ExpectGathers<uint32_t>(row_bytes, count, 4'000'000'000u);
      ExpectGathers<uint64_t>(row_bytes, count, uint64_t{1} << 40);
    }
  }
}

TEST(GatherTest, AllNone) {
  const std::vector<uint32_t> ids(100, ~uint32_t{0});
  std::vector<uint8_t> out(100 * 264, 1);
  GatherRows<uint32_t>(nullptr, 264, ids.data(), ids.size(), 0, out.data());
  EXPECT_EQ(out, std::vector<uint8_t>(100 * 264, 0));
}

}  // namespace
}  // namespace engram

#include "proto/crc32c.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace engram {
namespace {

// The definition, bit by bit: reflected polynomial 0x82F63B78, both inversions.
uint32_t Reference(const uint8_t* bytes, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(Crc32c("", 0), 0u);
  EXPECT_EQ(Crc32c("123456789", 9), 0xE3069283u);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(Crc32c(std::string(32, '\0').data(), 32), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF').data(), 32), 0x62A8AB43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending += c;
  EXPECT_EQ(Crc32c(ascending.data(), 32), 0x46DD794Eu);
}

TEST(Crc32c, EveryLengthAndAlignmentAgreesWithTheDefinition) {
  std::vector<uint8_t> bytes(600);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 + 11);
  for (size_t start = 0; start < 8; ++start) {
    for (size_t size = 0; size <= 530; ++size) {
      ASSERT_EQ(Crc32c(bytes.data() + start, size), Reference(bytes.data() + start, size))
          << "start " << start << ", size " << size;
    }
  }
}

TEST(Crc32c, AnyFlippedBitOfARowShows) {
  std::vector<uint8_t> row(264, 0x5A);
  const uint32_t whole = Crc32c(row.data(), row.size());
  for (size_t bit = 0; bit < row.size() * 8; ++bit) {
    row[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_NE(Crc32c(row.data(), row.size()), whole) << bit;
    row[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

}  // namespace
}  // namespace engram

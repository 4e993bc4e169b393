#include "proto/hot_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/base/file.h"
#include "proto/crc32c.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_path.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
using Key = HotKeys::Key;

Sha256 Digest(uint8_t byte) {
  Sha256 digest;
  digest.fill(byte);
  return digest;
}

TEST(HotKeys, AreMergedByTheirRows) {
  const std::vector<HotKeys> parts = {
      {Digest(1), {{1, 0, 5, {10, 20}}, {14, 0, 4, {10, 20}}}},
      {Digest(1), {{1, 8, 6, {10, 20}}, {1, 0, 3, {10, 20}}}},
  };
  ASSERT_OK_AND_ASSIGN(const HotKeys merged, MergeHotKeys(parts, 100));
  EXPECT_EQ(merged.digest, Digest(1));
  EXPECT_THAT(merged.keys, testing::ElementsAre(Key{1, 0, 8, {10, 20}}, Key{1, 8, 6, {10, 20}},
                                                Key{14, 0, 4, {10, 20}}));
  ASSERT_OK_AND_ASSIGN(const HotKeys two, MergeHotKeys(parts, 2));
  EXPECT_EQ(two.keys.size(), 2u);
  EXPECT_THAT(MergeHotKeys({}, 1), StatusIs(Code::kInvalidArgument, "no hot n-grams"));
  const std::vector<HotKeys> other = {{Digest(1), {}}, {Digest(2), {}}};
  EXPECT_THAT(MergeHotKeys(other, 1), StatusIs(Code::kInvalidArgument, "of two tables, 0101"));
}

class HotKeysFile : public testing::Test {
 protected:
  absl::Status ReadBack(const std::string& bytes) {
    EXPECT_THAT(WriteFileAtomically(path_, bytes), IsOk());
    return ReadHotKeys(path_).status();
  }

  // What tests/proto/golden/hot-keys-v1.bin holds.
  const HotKeys hot_ = {Digest(7), {{1, 8, 9, {1, 2, 3}}, {14, 0, 5, {uint64_t{1} << 40}}}};
  const std::string path_ = TempPath("hot_keys_test");
};

TEST_F(HotKeysFile, OfTheFirstVersionStaysReadable) {
  const std::string golden = "tests/proto/golden/hot-keys-v1.bin";
  ASSERT_OK_AND_ASSIGN(const HotKeys read, ReadHotKeys(golden));
  EXPECT_EQ(read, hot_);
  ASSERT_THAT(WriteHotKeys(path_, hot_), IsOk());
  EXPECT_EQ(*ReadFile(path_, 1 << 20), *ReadFile(golden, 1 << 20));
  ASSERT_OK_AND_ASSIGN(const bool is, IsHotKeysFile(golden));
  EXPECT_TRUE(is);
  ASSERT_THAT(WriteFileAtomically(path_, "ENGRHOT1"), IsOk());
  ASSERT_OK_AND_ASSIGN(const bool other_is, IsHotKeysFile(path_));
  EXPECT_FALSE(other_is);
}

TEST_F(HotKeysFile, EveryFlippedBitAndEveryCutIsFound) {
  ASSERT_THAT(WriteHotKeys(path_, hot_), IsOk());
  const std::string bytes = *ReadFile(path_, 1 << 20);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(ReadBack(damaged).ok()) << "bit " << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(ReadBack(bytes.substr(0, size)), StatusIs(Code::kInvalidArgument, path_)) << size;
  }
  EXPECT_THAT(ReadBack(bytes + "x"), StatusIs(Code::kInvalidArgument, "has another length"));
}

// With checksums that fit.
TEST_F(HotKeysFile, WhatNoVersionOfOursWritesIsNamed) {
  HotKeys bad = hot_;
  bad.keys[1].rows.clear();
  ASSERT_THAT(WriteHotKeys(path_, bad), IsOk());
  EXPECT_THAT(ReadHotKeys(path_), StatusIs(Code::kInvalidArgument, "n-gram 1 has 0 rows"));
  std::string bytes = *ReadFile("tests/proto/golden/hot-keys-v1.bin", 1 << 20);
  bytes[8] = 2;
  const uint32_t checksum = Crc32c(bytes.data(), 52);
  bytes.replace(52, 4, reinterpret_cast<const char*>(&checksum), 4);
  EXPECT_THAT(ReadBack(bytes),
              StatusIs(Code::kInvalidArgument, path_ + ": is of version 2, this reads 1"));
}

}  // namespace
}  // namespace engram

#include "storage/disk/hot_rows.h"

#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class HotRowsTest : public ::testing::Test {
 protected:
  void Change(size_t at, char to) {
    std::string bytes = ReadTestFile(path_);
    bytes[at] = to;
    WriteTestFile(path_, bytes);
  }

  const TempDir dir_;
  const std::string path_ = dir_.File("hot-rows");
  const Sha256 digest_{1, 2, 3};
};

TEST_F(HotRowsTest, AreReadAsWritten) {
  ASSERT_THAT(WriteHotRows(path_, digest_, {{3, 1}, {7, 15}}), IsOk());
  ASSERT_OK_AND_ASSIGN(const std::vector<HotRow> rows, ReadHotRows(path_, digest_, 8));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].place, 3u);
  EXPECT_EQ(rows[1].place, 7u);
  EXPECT_EQ(rows[1].uses, 15);
}

// The format stays readable: this file was written by the format's first version.
TEST_F(HotRowsTest, ReadsAndWritesTheGoldenFile) {
  const std::string golden = "tests/storage/golden/hot-rows-v1.bin";
  ASSERT_OK_AND_ASSIGN(const std::vector<HotRow> rows, ReadHotRows(golden, digest_, 8));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].place, 3u);
  EXPECT_EQ(rows[0].uses, 1);
  EXPECT_EQ(rows[1].place, 7u);
  EXPECT_EQ(rows[1].uses, 15);
  ASSERT_THAT(WriteHotRows(path_, digest_, rows), IsOk());
  EXPECT_EQ(ReadTestFile(path_), ReadTestFile(golden));
}

TEST_F(HotRowsTest, WhatIsNotTheirsIsRefused) {
  EXPECT_THAT(ReadHotRows(path_, digest_, 8), StatusIs(absl::StatusCode::kNotFound, path_));
  ASSERT_THAT(WriteHotRows(path_, digest_, {{3, 1}, {7, 15}}), IsOk());
  EXPECT_THAT(ReadHotRows(path_, Sha256{}, 8),
              StatusIs(absl::StatusCode::kInvalidArgument, "is of another table"));
  EXPECT_THAT(ReadHotRows(path_, digest_, 7),
              StatusIs(absl::StatusCode::kInvalidArgument, "names row 7 of a shard of 7"));
  const std::string bytes = ReadTestFile(path_);
  WriteTestFile(path_, bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(ReadHotRows(path_, digest_, 8), StatusIs(absl::StatusCode::kDataLoss, path_));
  WriteTestFile(path_, bytes.substr(0, 20));
  EXPECT_THAT(ReadHotRows(path_, digest_, 8), StatusIs(absl::StatusCode::kDataLoss, "cut off"));
  WriteTestFile(path_, bytes);
  Change(60, 9);
  EXPECT_THAT(ReadHotRows(path_, digest_, 8), StatusIs(absl::StatusCode::kDataLoss, "checksum"));
  WriteTestFile(path_, bytes);
  Change(8, 2);
  EXPECT_THAT(ReadHotRows(path_, digest_, 8),
              StatusIs(absl::StatusCode::kInvalidArgument, "format version 2"));
  Change(0, 'X');
  EXPECT_THAT(ReadHotRows(path_, digest_, 8),
              StatusIs(absl::StatusCode::kInvalidArgument, "not a list"));
}

}  // namespace
}  // namespace engram

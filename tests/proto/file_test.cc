#include "proto/base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "engram_file.XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  ~FileTest() override { std::filesystem::remove_all(dir_); }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }

  std::string dir_;
};

TEST_F(FileTest, WritesAndReadsWhole) {
  const std::string bytes("a\0b", 3);
  ASSERT_THAT(WriteFileAtomically(Path("f"), bytes), IsOk());
  EXPECT_THAT(ReadFile(Path("f"), 3), IsOkAndHolds(bytes));
  ASSERT_THAT(WriteFileAtomically(Path("f"), ""), IsOk());
  EXPECT_THAT(ReadFile(Path("f"), 0), IsOkAndHolds(std::string()));
  // Nothing of the writing is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST_F(FileTest, RefusesWhatIsTooLargeOrNoFile) {
  ASSERT_THAT(WriteFileAtomically(Path("f"), "four"), IsOk());
  EXPECT_THAT(ReadFile(Path("f"), 3),
              StatusIs(kInvalid, Path("f") + " has 4 bytes; at most 3 are accepted"));
  EXPECT_THAT(ReadFile(dir_, 10), StatusIs(kInvalid, dir_ + " is not a regular file"));
  EXPECT_THAT(ReadFile(Path("absent"), 3),
              StatusIs(absl::StatusCode::kNotFound, "cannot open " + Path("absent")));
}

TEST_F(FileTest, AFailedWriteLeavesTheOldFile) {
  EXPECT_THAT(WriteFileAtomically(Path("absent/f"), "x"),
              StatusIs(absl::StatusCode::kNotFound, Path("absent/f")));
  std::filesystem::create_directory(Path("d"));
  EXPECT_FALSE(WriteFileAtomically(Path("d"), "x").ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST(SystemError, ALoopOfLinksIsTheCallersToMend) {
  EXPECT_THAT(SystemError(ELOOP, "x"), StatusIs(absl::StatusCode::kInvalidArgument, "x"));
  EXPECT_THAT(SystemError(ENOSPC, "x"), StatusIs(absl::StatusCode::kResourceExhausted, "x"));
}

}  // namespace
}  // namespace engram

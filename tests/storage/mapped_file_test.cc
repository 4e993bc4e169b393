#include "storage/mapped_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

FileStamp Stamp(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY);
  const FileStamp stamp = StampOf(fd, path).value();
  close(fd);
  return stamp;
}

class MappedFileTest : public ::testing::Test {
 protected:
  MappedFileTest() { WriteTestFile(path_, bytes_); }

  TempDir dir_;
  const std::string path_ = dir_.File("file");
  const std::string bytes_ = std::string(1 << 20, 'x');
};

TEST_F(MappedFileTest, HoldsTheFilesBytes) {
  ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path_, Stamp(path_)));
  EXPECT_EQ(file.bytes(), bytes_.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), file.bytes()), bytes_);
  EXPECT_THAT(file.Check(), IsOk());
}

TEST_F(MappedFileTest, APageThatIsGoneReadsAsZerosAndIsKnown) {
  ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path_, Stamp(path_)));
  std::filesystem::resize_file(path_, 4096);
  EXPECT_EQ(file.data()[0], 'x');
  const volatile uint8_t* const data = file.data();
  EXPECT_EQ(data[800000], 0);
  EXPECT_EQ(data[8192], 0);
  // The size tells, too; the lost page remains known when the file is whole again.
  EXPECT_THAT(file.Check(), StatusIs(kDataLoss, path_ + ": has 4096 bytes; it had 1048576"));
}

TEST_F(MappedFileTest, ALostPageIsKnownApartFromTimes) {
  ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path_, Stamp(path_)));
  ASSERT_OK_AND_ASSIGN(const MappedFile other, MappedFile::Open(path_, Stamp(path_)));
  std::filesystem::resize_file(path_, 0);
  const volatile uint8_t* const data = file.data();
  EXPECT_EQ(data[5], 0);
  // A view that is opened now has the file's present stamp; another mapping's loss is not its own.
  WriteTestFile(path_, bytes_);
  ASSERT_OK_AND_ASSIGN(const MappedFile fresh, MappedFile::Open(path_, Stamp(path_)));
  EXPECT_THAT(fresh.Check(), IsOk());
  EXPECT_EQ(fresh.data()[5], 'x');
  EXPECT_THAT(file.Check(), StatusIs(kDataLoss, path_));
}

TEST_F(MappedFileTest, AnyWriteIsKnown) {
  ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(path_, Stamp(path_)));
  WriteTestFile(path_, bytes_);
  EXPECT_THAT(file.Check(), StatusIs(kDataLoss, path_ + ": has changed since it was opened"));
}

TEST_F(MappedFileTest, RefusesAFileThatIsNotTheOneStamped) {
  const FileStamp stamp = Stamp(path_);
  WriteTestFile(path_ + ".new", bytes_);
  std::filesystem::rename(path_ + ".new", path_);
  EXPECT_THAT(MappedFile::Open(path_, stamp),
              StatusIs(kDataLoss, path_ + ": was replaced by another file"));
  EXPECT_THAT(MappedFile::Open(dir_.File("absent"), stamp),
              StatusIs(absl::StatusCode::kNotFound, dir_.File("absent")));
  // A pipe that nobody writes to must not be waited for.
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(path_, stamp),
              StatusIs(absl::StatusCode::kInvalidArgument, path_ + ": not a regular file"));
}

// A bus error elsewhere ends the process as it always did.
TEST_F(MappedFileTest, OtherBusErrorsAreNotOurs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto crash = [&] {
    const auto file = MappedFile::Open(path_, Stamp(path_));
    WriteTestFile(dir_.File("foreign"), bytes_);
    const int fd = open(dir_.File("foreign").c_str(), O_RDONLY);
    void* const data = mmap(nullptr, bytes_.size(), PROT_READ, MAP_SHARED, fd, 0);
    std::filesystem::resize_file(dir_.File("foreign"), 0);
    const volatile char* const at = static_cast<const char*>(data);
    _exit(at[100] == 0 ? 0 : 1);
  };
  EXPECT_DEATH(crash(), "");
}

}  // namespace
}  // namespace engram

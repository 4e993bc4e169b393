#include "storage/arena_file.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/crc32c.h"
#include "storage/file_frame.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr uint32_t kRowBytes = 33;
constexpr char kShm[] = "/dev/shm";

// What tests/storage/golden/arena-v1.bin holds, and the bytes of its rows.
ArenaContents GoldenContents() {
  ArenaContents contents;
  for (size_t i = 0; i < contents.digest.size(); ++i) contents.digest[i] = static_cast<uint8_t>(i);
  contents.row_bytes = kRowBytes;
  contents.ranges = {{1, 10, 13}, {3, 0, 2}};
  return contents;
}

std::string ArenaRow(size_t i) {
  std::string row;
  for (size_t j = 0; j < kRowBytes; ++j) row += static_cast<char>(40 * i + j);
  return row;
}

void Fill(const ArenaFile& file) {
  for (size_t i = 0; i < 5; ++i) {
    const std::string row = ArenaRow(i);
    std::memcpy(file.rows() + i * kRowBytes, row.data(), row.size());
    file.checksums()[i] = Crc32c(row.data(), row.size());
  }
}

void ExpectGolden(const ArenaFile& file) {
  for (size_t i = 0; i < 5; ++i) {
    const std::string row = ArenaRow(i);
    EXPECT_EQ(std::memcmp(file.rows() + i * kRowBytes, row.data(), row.size()), 0) << i;
    EXPECT_EQ(file.checksums()[i], Crc32c(row.data(), row.size())) << i;
  }
}

// A file system of its own, mounted for a test; not ok() without the right to.
class Mount {
 public:
  Mount(const char* type, const std::string& options) {
    ok_ = mount("none", at_.path().c_str(), type, 0, options.c_str()) == 0;
  }
  ~Mount() {
    if (ok_) umount2(at_.path().c_str(), MNT_DETACH);
  }
  bool ok() const { return ok_; }
  const std::string& path() const { return at_.path(); }
  bool MakeReadOnly() const {
    return mount(nullptr, path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }

 private:
  TempDir at_;
  bool ok_ = false;
};

class ArenaFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!ArenaDirectory::Look(kShm).ok()) GTEST_SKIP() << kShm << " is no tmpfs: NOT TESTED";
    dir_.emplace(kShm);
    path_ = dir_->File(ArenaFileName(contents_));
  }
  absl::StatusOr<std::shared_ptr<ArenaFile>> Open() { return OpenIn(dir_->path()); }
  absl::StatusOr<std::shared_ptr<ArenaFile>> OpenIn(const std::string& directory) {
    log_.clear();
    return ArenaFile::Open(directory, contents_,
                           [this](absl::string_view line) { absl::StrAppend(&log_, line, "\n"); });
  }
  // A complete arena of the golden rows.
  void Make() {
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    ASSERT_THAT(file->Allocate(), IsOk());
    Fill(*file);
    ASSERT_THAT(file->MarkComplete(), IsOk());
  }
  // The file is not taken, for this reason, and can be loaded anew.
  void ExpectLoadedAnew(const std::string& reason) {
    {
      ASSERT_OK_AND_ASSIGN(const auto file, Open());
      EXPECT_FALSE(file->complete());
      EXPECT_THAT(log_, HasSubstr(absl::StrCat(path_, reason)));
      EXPECT_THAT(log_, HasSubstr(": loading anew"));
      ASSERT_THAT(file->Allocate(), IsOk());
      EXPECT_EQ(file->rows()[0], 0);
      Fill(*file);
      ASSERT_THAT(file->MarkComplete(), IsOk());
    }
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    EXPECT_TRUE(file->complete());
    ExpectGolden(*file);
  }

  const ArenaContents contents_ = GoldenContents();
  std::optional<TempDir> dir_;
  std::string path_;
  std::string log_;
};

// The format stays readable: this file was written by the format's first version.
TEST_F(ArenaFileTest, ReadsTheGoldenFile) {
  WriteTestFile(path_, ReadTestFile("tests/storage/golden/arena-v1.bin"));
  ASSERT_OK_AND_ASSIGN(const auto file, Open());
  EXPECT_TRUE(file->complete());
  ExpectGolden(*file);
  EXPECT_EQ(log_, "");
}

TEST_F(ArenaFileTest, WritesTheGoldenFile) {
  Make();
  EXPECT_TRUE(ReadTestFile(path_) == ReadTestFile("tests/storage/golden/arena-v1.bin"));
}

TEST_F(ArenaFileTest, ANewFileIsZerosAndNotComplete) {
  ASSERT_OK_AND_ASSIGN(const auto file, Open());
  EXPECT_FALSE(file->complete());
  EXPECT_EQ(log_, "");
  ASSERT_THAT(file->Allocate(), IsOk());
  EXPECT_FALSE(file->complete());
  EXPECT_THAT(std::string(reinterpret_cast<char*>(file->rows()), 5 * kRowBytes),
              testing::Each('\0'));
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_GE(info.st_blocks * 512, info.st_size);  // reserved
}

TEST_F(ArenaFileTest, LargeArenasBeginAtHugePages) {
  ArenaContents contents = contents_;
  contents.ranges = {{1, 0, 100'000}};
  for (const bool again : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const auto file, ArenaFile::Open(dir_->path(), contents, nullptr));
    EXPECT_EQ(file->complete(), again);
    if (!again) {
      ASSERT_THAT(file->Allocate(), IsOk());
    }
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file->rows()) % kHugePage, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file->checksums()) % kHugePage, 0u);
    if (!again) {
      file->rows()[100'000 * kRowBytes - 1] = 7;
      file->checksums()[99'999] = 8;
      ASSERT_THAT(file->MarkComplete(), IsOk());
    }
    EXPECT_EQ(file->rows()[100'000 * kRowBytes - 1], 7);
    EXPECT_EQ(file->checksums()[99'999], 8u);
  }
}

TEST_F(ArenaFileTest, RangesMayComeInAnyOrder) {
  Make();
  ArenaContents turned = contents_;
  std::swap(turned.ranges[0], turned.ranges[1]);
  ASSERT_OK_AND_ASSIGN(const auto file, ArenaFile::Open(dir_->path(), turned, nullptr));
  EXPECT_TRUE(file->complete());
}

TEST_F(ArenaFileTest, ACompleteArenaCannotBeWrittenTo) {
  Make();
  // Not a death test: its process would leave a directory in memory.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto file = Open();
    if (!file.ok() || !(*file)->complete()) _exit(0);
    const volatile uint8_t before = (*file)->rows()[0];
    (*file)->rows()[0] = before;
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_NE(status, 0);
}

TEST_F(ArenaFileTest, WhatWasNotMarkedCompleteIsNotTaken) {
  {
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    ASSERT_THAT(file->Allocate(), IsOk());
    Fill(*file);
  }
  EXPECT_EQ(fs::file_size(path_), 0u);  // Its memory is given back.
  ASSERT_OK_AND_ASSIGN(const auto file, Open());
  EXPECT_FALSE(file->complete());
}

TEST_F(ArenaFileTest, AProcessThatIsKilledLeavesAnIncompleteFile) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto file = Open();
    if (!file.ok() || !(*file)->Allocate().ok()) _exit(1);
    Fill(**file);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ExpectLoadedAnew(" was not completely loaded");
}

TEST_F(ArenaFileTest, KilledBeforeThereIsAHeader) {
  WriteTestFile(path_, std::string(12288, '\0'));
  ExpectLoadedAnew(" has no header yet");
}

TEST_F(ArenaFileTest, ADamagedArenaIsNotTaken) {
  Make();
  ASSERT_OK_AND_ASSIGN(auto file, Open());
  file->MarkDamaged();
  file->MarkDamaged();
  ExpectGolden(*file);
  file.reset();
  ExpectLoadedAnew(" was found to be damaged");
}

TEST_F(ArenaFileTest, OnlyOneMayHaveIt) {
  Make();
  ASSERT_OK_AND_ASSIGN(auto file, Open());
  EXPECT_THAT(Open(),
              StatusIs(kPrecondition, absl::StrCat("arena ", path_, " is in use by another")));
  file.reset();
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(ArenaFileTest, AnyFlippedBitOfTheHeaderIsRefused) {
  Make();
  const std::string bytes = ReadTestFile(path_);
  const size_t header_bytes = ArenaHeader::For(contents_).Serialize().size();
  for (size_t bit = 0; bit < header_bytes * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    WriteTestFile(path_, flipped);
    const auto file = Open();
    if (bit / 8 < 8) {  // Another magic may be somebody else's file.
      EXPECT_THAT(file, StatusIs(kInvalid, path_ + " is not an arena file")) << bit;
      EXPECT_TRUE(ReadTestFile(path_) == flipped);
    } else {
      ASSERT_THAT(file, IsOk()) << bit;
      EXPECT_FALSE((*file)->complete()) << bit;
      EXPECT_THAT(log_, HasSubstr(path_ + ": the ")) << bit;
    }
  }
}

TEST_F(ArenaFileTest, ANewerVersionIsRefusedAndLeftAsItIs) {
  Make();
  std::string bytes = ReadTestFile(path_);
  const std::string header = ArenaHeader::For(contents_).Serialize();
  const std::string newer = Frame({"ENGRARNA", 2, ""}, header.substr(kFrameBytes));
  bytes.replace(0, newer.size(), newer);
  WriteTestFile(path_, bytes);
  EXPECT_THAT(Open(),
              StatusIs(kInvalid, path_ + " has format version 2; this program reads version 1"));
  EXPECT_TRUE(ReadTestFile(path_) == bytes);
}

TEST_F(ArenaFileTest, SoundHeadersOfPlacesThatCannotBe) {
  Make();
  const std::string bytes = ReadTestFile(path_);
  const auto expect_refused = [&](const ArenaHeader& header, const std::string& reason) {
    std::string changed = bytes;
    const std::string front = header.Serialize();
    changed.replace(0, front.size(), front);
    WriteTestFile(path_, changed);
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    EXPECT_FALSE(file->complete());
    EXPECT_THAT(log_, HasSubstr(path_ + reason));
  };
  ArenaHeader sound = ArenaHeader::For(contents_);
  sound.state = ArenaState::kComplete;
  ArenaHeader header = sound;
  header.rows_offset = 0;
  expect_refused(header, ": its places overlap");
  header = sound;
  header.rows_offset = 4097;
  expect_refused(header, ": its places overlap");
  header = sound;
  header.checksums_offset = header.rows_offset;
  expect_refused(header, ": its places overlap");
  header = sound;
  header.checksums_offset = ~uint64_t{0} - 4095;
  expect_refused(header, ": its places overlap");
  header = sound;
  header.checksums_offset = 12288;
  expect_refused(header, " has 12288 bytes, not 12308");
  header = sound;
  header.contents.ranges = {{1, 5, 4}};
  expect_refused(header, ": its ranges are none");
  header.contents.ranges = {{1, 0, uint64_t{1} << 45}, {2, 0, uint64_t{1} << 45}};
  expect_refused(header, ": it has more rows than there can be");
}

TEST_F(ArenaFileTest, AFileThatWasCutIsNotTaken) {
  Make();
  fs::resize_file(path_, 8200);
  ExpectLoadedAnew(" has 8200 bytes, not 8212");
}

TEST_F(ArenaFileTest, AFileThatIsCutWhileItIsMappedIsKnown) {
  Make();
  {
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    EXPECT_THAT(file->Check(), IsOk());
    fs::resize_file(path_, 0);
    const volatile uint8_t* const rows = file->rows();
    EXPECT_EQ(rows[0], 0);
    EXPECT_THAT(file->Check(), StatusIs(absl::StatusCode::kDataLoss, path_ + ": a part of it"));
    file->MarkDamaged();
  }
  {
    ASSERT_OK_AND_ASSIGN(const auto file, Open());
    ASSERT_THAT(file->Allocate(), IsOk());
    fs::resize_file(path_, 4096);
    Fill(*file);
    EXPECT_THAT(file->MarkComplete(), StatusIs(absl::StatusCode::kDataLoss, path_));
  }
  ASSERT_OK_AND_ASSIGN(const auto file, Open());
  EXPECT_FALSE(file->complete());
}

TEST_F(ArenaFileTest, ARemovedFileStaysWithWhoHasIt) {
  Make();
  ASSERT_OK_AND_ASSIGN(const auto file, Open());
  fs::remove(path_);
  ASSERT_OK_AND_ASSIGN(const auto fresh, Open());
  EXPECT_FALSE(fresh->complete());
  ASSERT_THAT(fresh->Allocate(), IsOk());
  ExpectGolden(*file);
  EXPECT_THAT(file->Check(), IsOk());
}

TEST_F(ArenaFileTest, OtherArenasStayAndAreNamed) {
  Make();
  ArenaContents other = contents_;
  other.digest[0] ^= 1;
  std::string log;
  const auto keep = [&](absl::string_view line) { absl::StrAppend(&log, line, "\n"); };
  ASSERT_OK_AND_ASSIGN(const auto file, ArenaFile::Open(dir_->path(), other, keep));
  EXPECT_FALSE(file->complete());
  EXPECT_THAT(log, HasSubstr(absl::StrCat(path_, " (0.00 GB) is another table's or shard's")));
  other = contents_;
  other.ranges[1].end = 3;
  ASSERT_OK_AND_ASSIGN(const auto shard, ArenaFile::Open(dir_->path(), other, keep));
  EXPECT_NE(shard->path(), path_);
  ASSERT_OK_AND_ASSIGN(const auto again, Open());
  EXPECT_TRUE(again->complete());
}

TEST_F(ArenaFileTest, AnotherTablesRowsUnderThisNameAreRefused) {
  Make();
  const std::string bytes = ReadTestFile(path_);
  ArenaContents other = contents_;
  other.digest[31] ^= 1;  // beyond what the name says
  EXPECT_EQ(ArenaFileName(other), ArenaFileName(contents_));
  EXPECT_THAT(ArenaFile::Open(dir_->path(), other, nullptr),
              StatusIs(kPrecondition, path_ + " holds rows of the table 000102"));
  EXPECT_TRUE(ReadTestFile(path_) == bytes);
}

TEST_F(ArenaFileTest, OnlyRegularFilesOfOurs) {
  fs::create_symlink("/dev/zero", path_);
  EXPECT_THAT(Open(), StatusIs(kInvalid, path_));
  fs::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(Open(), StatusIs(kInvalid, path_ + " is not a regular file"));
  fs::remove(path_);
  if (geteuid() != 0) GTEST_SKIP() << "not root: NOT TESTED with another user's file";
  Make();
  ASSERT_EQ(chown(path_.c_str(), 12345, 12345), 0);
  EXPECT_THAT(Open(), StatusIs(kPrecondition, path_ + " belongs to user 12345, this process to"));
}

TEST_F(ArenaFileTest, PlacesThatAreNotForArenas) {
  const TempDir disk;
  if (!ArenaDirectory::Look(disk.path()).ok()) {
    EXPECT_THAT(OpenIn(disk.path()),
                StatusIs(kInvalid, disk.path() + " is on neither tmpfs nor hugetlbfs"));
  }
  EXPECT_THAT(OpenIn(dir_->File("absent")),
              StatusIs(absl::StatusCode::kNotFound, dir_->File("absent")));
  WriteTestFile(dir_->File("file"), "x");
  EXPECT_THAT(OpenIn(dir_->File("file")), StatusIs(kInvalid, ": no directory"));
}

TEST_F(ArenaFileTest, AFullFileSystemIsSaidBeforeAnythingIsTouched) {
  const Mount tmpfs("tmpfs", "size=8192");
  if (!tmpfs.ok()) GTEST_SKIP() << "may not mount: NOT TESTED with a full tmpfs";
  {
    ASSERT_OK_AND_ASSIGN(const auto file, OpenIn(tmpfs.path()));
    EXPECT_THAT(file->Allocate(),
                StatusIs(kExhausted, absl::StrCat("arena directory ", tmpfs.path(),
                                                  ": the shard takes 12288")));
  }
  ASSERT_OK_AND_ASSIGN(const auto directory, ArenaDirectory::Look(tmpfs.path()));
  EXPECT_EQ(directory.free_bytes, 8192u);
}

TEST_F(ArenaFileTest, AReadOnlyDirectory) {
  const Mount tmpfs("tmpfs", "size=1m");
  if (!tmpfs.ok()) GTEST_SKIP() << "may not mount: NOT TESTED with a read-only tmpfs";
  ASSERT_TRUE(tmpfs.MakeReadOnly());
  EXPECT_THAT(OpenIn(tmpfs.path()),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       absl::StrCat("cannot open the arena ", tmpfs.path(), "/engram-000102")));
}

// With `echo 8 > /proc/sys/vm/nr_hugepages` before.
TEST_F(ArenaFileTest, OnHugePages) {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  uint64_t free_pages = 0;
  while (meminfo >> word && word != "HugePages_Free:") {
  }
  meminfo >> free_pages;
  const Mount hugetlbfs("hugetlbfs", "pagesize=2M,size=8M");
  if (!hugetlbfs.ok() || free_pages < 5) {
    GTEST_SKIP() << "may not mount, or no huge pages are set aside: NOT TESTED on hugetlbfs";
  }
  ArenaContents contents = contents_;
  contents.ranges = {{1, 0, 100'000}};
  for (const bool again : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const auto file, ArenaFile::Open(hugetlbfs.path(), contents, nullptr));
    EXPECT_TRUE(file->directory().huge_pages);
    EXPECT_EQ(file->complete(), again);
    if (!again) {
      ASSERT_THAT(file->Allocate(), IsOk());
      file->rows()[100'000 * kRowBytes - 1] = 7;
      ASSERT_THAT(file->MarkComplete(), IsOk());
    }
    EXPECT_EQ(file->rows()[100'000 * kRowBytes - 1], 7);
    if (again) {
      fs::resize_file(file->path(), 0);
      EXPECT_EQ(static_cast<const volatile uint8_t*>(file->rows())[0], 0);
      EXPECT_THAT(file->Check(), StatusIs(absl::StatusCode::kDataLoss, file->path()));
    }
  }
  contents.ranges = {{1, 0, 200'000}};
  ASSERT_OK_AND_ASSIGN(const auto file, ArenaFile::Open(hugetlbfs.path(), contents, nullptr));
  EXPECT_THAT(file->Allocate(), StatusIs(kExhausted, hugetlbfs.path()));
}

}  // namespace
}  // namespace engram

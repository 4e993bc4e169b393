#include "storage/memory_available.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class MemoryAvailableTest : public ::testing::Test {
 protected:
  void Put(absl::string_view path, absl::string_view text) {
    const std::string full = dir_.File(path);
    std::filesystem::create_directories(std::filesystem::path(full).parent_path());
    WriteTestFile(full, text);
  }
  void PutMachine(uint64_t kib) {
    Put("proc/meminfo", absl::StrCat("MemTotal: 99 kB\nMemAvailable:   ", kib, " kB\n"));
  }
  void PutV2(absl::string_view path, absl::string_view max, absl::string_view current,
             absl::string_view cache) {
    const std::string at = absl::StrCat("sys/fs/cgroup", path, "/");
    Put(absl::StrCat(at, "memory.max"), absl::StrCat(max, "\n"));
    Put(absl::StrCat(at, "memory.current"), absl::StrCat(current, "\n"));
    Put(absl::StrCat(at, "memory.stat"), absl::StrCat("anon 5\ninactive_file ", cache, "\n"));
  }
  uint64_t Available() {
    const auto available = MemoryAvailable(dir_.path());
    EXPECT_THAT(available, IsOk());
    return available.value_or(0);
  }

  TempDir dir_;
};

TEST_F(MemoryAvailableTest, TheMachineAloneWithoutCgroups) {
  PutMachine(1000);
  EXPECT_EQ(Available(), 1024000u);
}

TEST_F(MemoryAvailableTest, Version2TheTightestOfTheHierarchy) {
  PutMachine(1000);
  Put("proc/self/cgroup", "0::/a/b\n");
  PutV2("/a/b", "max", "10", "0");
  EXPECT_EQ(Available(), 1024000u);
  PutV2("/a", "9000", "5000", "1000");  // 4000 really taken
  EXPECT_EQ(Available(), 5000u);
  PutV2("/a/b", "700", "400", "0");
  EXPECT_EQ(Available(), 300u);
  PutV2("", "100", "20", "0");
  EXPECT_EQ(Available(), 80u);
}

TEST_F(MemoryAvailableTest, UsageAboveTheLimitLeavesNothing) {
  PutMachine(1000);
  Put("proc/self/cgroup", "0::/\n");
  PutV2("", "100", "500", "0");
  EXPECT_EQ(Available(), 0u);
  PutV2("", "100", "500", "9999");  // More cache than usage: they are not read at one instant.
  EXPECT_EQ(Available(), 100u);
}

TEST_F(MemoryAvailableTest, Version1) {
  PutMachine(1000);
  Put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/pod\n0::/\n");
  Put("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "9000\n");
  Put("sys/fs/cgroup/memory/pod/memory.usage_in_bytes", "8000\n");
  Put("sys/fs/cgroup/memory/pod/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
  EXPECT_EQ(Available(), 1500u);
}

// A container sees its own cgroup at the mount's root, under a path that is the host's.
TEST_F(MemoryAvailableTest, PathsThatAreNotThereArePassedOver) {
  PutMachine(1000);
  Put("proc/self/cgroup", "0::/host/path\n");
  PutV2("", "4000", "1000", "0");
  EXPECT_EQ(Available(), 3000u);
}

TEST_F(MemoryAvailableTest, OddLinesSetNoLimit) {
  PutMachine(1000);
  Put("proc/self/cgroup", "\nnonsense\n0:\n0::/../other\n");
  EXPECT_EQ(Available(), 1024000u);
}

// A path without a leading slash is nothing the kernel writes; it must end the walk all the same.
TEST_F(MemoryAvailableTest, APathWithoutASlashEndsTheWalk) {
  PutMachine(1000);
  Put("proc/self/cgroup", "0::odd\n");
  EXPECT_EQ(Available(), 1024000u);
}

TEST_F(MemoryAvailableTest, NoMeminfoIsNotFound) {
  EXPECT_THAT(MemoryAvailable(dir_.path()),
              StatusIs(absl::StatusCode::kNotFound, "/proc/meminfo has no MemAvailable"));
  Put("proc/meminfo", "MemTotal: 7 kB\n");
  EXPECT_THAT(MemoryAvailable(dir_.path()),
              StatusIs(absl::StatusCode::kNotFound, "/proc/meminfo has no MemAvailable"));
}

TEST_F(MemoryAvailableTest, ThisMachineHasSome) {
  ASSERT_OK_AND_ASSIGN(const uint64_t available, MemoryAvailable());
  EXPECT_GT(available, 0u);
}

}  // namespace
}  // namespace engram

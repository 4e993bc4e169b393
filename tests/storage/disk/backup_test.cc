#include "storage/disk/backup.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "proto/base/status_macros.h"
#include "storage/delta.h"
#include "storage/delta_file.h"
#include "storage/disk/disk_table.h"
#include "storage/generations.h"
#include "storage/synth.h"
#include "tests/support/changed_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
namespace fs = std::filesystem;

// A shard on disk, and a generation that was published on it.
class BackupTest : public ::testing::Test {
 protected:
  struct Served {
    std::shared_ptr<const Table> table;
    std::unique_ptr<Generations> generations;
  };

  BackupTest() {
    EXPECT_THAT(Synthesize({.out = base_, .bucket_floor = 100, .tokenizer = ""}), IsOk());
    WriteChanged(base_, target_, {{0, 3}, {0, 900}, {1, 7}});
    EXPECT_THAT(WriteDelta({base_, target_, delta_, 1, nullptr}), IsOk());
    digest_ = DeltaReader::Open(delta_).value()->header().target;
  }

  absl::StatusOr<Served> Open(const std::string& data_dir, bool checkpoint = true) {
    LoadOptions options;
    if (checkpoint) options.checkpoint = base_;
    options.store = StoreKind::kRocksDb;
    options.memory_budget = 100'000;  // of 1.3 MB
    options.threads = 1;
    Served served;
    ASSIGN_OR_RETURN(Table table, OpenDiskTable(options, {data_dir, 2, false}));
    served.table = std::make_shared<const Table>(std::move(table));
    ASSIGN_OR_RETURN(served.generations, Generations::Open(served.table, data_dir, nullptr));
    return served;
  }
  // The whole delta, which is of the whole table.
  absl::Status Publish(Generations& generations) {
    const std::string bytes = ReadTestFile(delta_);
    size_t header_bytes = 0;
    ASSIGN_OR_RETURN(const DeltaHeader header, DecodeDeltaHeader(bytes, delta_, header_bytes));
    const absl::string_view all(bytes);
    return generations.Publish(
        {header.target, all.substr(0, header_bytes), 0, all.substr(header_bytes), true});
  }
  // All rows of the active generation.
  static std::string Rows(const Served& served) {
    std::string all;
    const auto set = served.generations->current();
    for (const RowRange& range : served.table->rows->ranges()) {
      std::vector<uint32_t> ids(range.end - range.begin);
      std::iota(ids.begin(), ids.end(), static_cast<uint32_t>(range.begin));
      std::string rows(ids.size() * 264, '\0');
      EXPECT_THAT(set->active().rows->Gather(range.layer, std::span<const uint32_t>(ids),
                                             reinterpret_cast<uint8_t*>(rows.data()), nullptr),
                  IsOk());
      all += rows;
    }
    return all;
  }

  const TempDir dir_;
  const std::string base_ = dir_.File("t0"), target_ = dir_.File("t1"), delta_ = dir_.File("d");
  const std::string data_ = dir_.File("data"), backup_ = dir_.File("backup");
  Sha256 digest_{};
};

TEST_F(BackupTest, WhatIsServedIsServedAgain) {
  std::string rows;
  {
    ASSERT_OK_AND_ASSIGN(const Served served, Open(data_));
    ASSERT_THAT(Publish(*served.generations), IsOk());
    ASSERT_THAT(served.generations->Activate(digest_), IsOk());
    rows = Rows(served);
    ASSERT_THAT(BackUp(data_, backup_), IsOk());  // while it is served
  }
  fs::remove_all(data_);
  fs::remove_all(base_);
  for (const std::string& to : {data_ + "/", dir_.File("empty")}) {
    if (to == dir_.File("empty")) fs::create_directory(to);
    ASSERT_THAT(Restore(backup_, to), IsOk());
    ASSERT_OK_AND_ASSIGN(const Served again, Open(to, /*checkpoint=*/false));
    EXPECT_EQ(again.generations->current()->active().digest, digest_);
    EXPECT_EQ(Rows(again), rows);
  }
}

TEST_F(BackupTest, DamageIsNamedAndLeavesNothing) {
  {
    ASSERT_OK_AND_ASSIGN(const Served served, Open(data_));
    ASSERT_THAT(Publish(*served.generations), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<BackupFile> files, BackUp(data_, backup_));
  const std::string to = dir_.File("restored");
  ASSERT_GT(files.size(), 4u);
  for (const BackupFile& file : files) {
    const std::string path = backup_ + "/" + file.name, good = ReadTestFile(path);
    std::vector<std::string> wrong = {good + "x"};
    if (!good.empty()) {
      wrong.push_back(good.substr(0, good.size() - 1));
      wrong.push_back(good);
      char& byte = wrong.back()[good.size() / 2];
      byte = static_cast<char>(byte ^ 8);
    }
    for (const std::string& bytes : wrong) {
      WriteTestFile(path, bytes);
      EXPECT_THAT(Restore(backup_, to), StatusIs(Code::kDataLoss, file.name));
    }
    fs::remove(path);
    EXPECT_THAT(Restore(backup_, to), StatusIs(Code::kDataLoss, "lacks " + file.name));
    WriteTestFile(path, good);
  }
  const std::string index = backup_ + "/backup", good = ReadTestFile(index);
  WriteTestFile(index, good.substr(0, good.size() - 3));
  EXPECT_THAT(Restore(backup_, to), StatusIs(Code::kDataLoss, "backup"));
  EXPECT_FALSE(fs::exists(to));
  EXPECT_FALSE(fs::exists(to + ".restoring"));
}

TEST_F(BackupTest, WhatIsNotWholeOrNotEmptyIsRefused) {
  EXPECT_THAT(BackUp(data_, backup_), StatusIs(Code::kNotFound, "is no directory"));
  fs::create_directories(data_);
  EXPECT_THAT(BackUp(data_, backup_), StatusIs(Code::kNotFound, "holds nothing"));
  fs::create_directories(data_ + "/import");
  EXPECT_THAT(BackUp(data_, backup_), StatusIs(Code::kFailedPrecondition, "has an import"));
  fs::remove_all(data_);
  ASSERT_THAT(Open(data_), IsOk());
  // A backup that was ended early.
  ASSERT_THAT(BackUp(data_, backup_), IsOk());
  EXPECT_THAT(BackUp(data_, backup_), StatusIs(Code::kFailedPrecondition, "is not empty"));
  EXPECT_THAT(Restore(backup_, data_), StatusIs(Code::kFailedPrecondition, "is not empty"));
  fs::remove(backup_ + "/backup");
  EXPECT_THAT(Restore(backup_, dir_.File("new")), StatusIs(Code::kNotFound, "is no backup"));
}

}  // namespace
}  // namespace engram

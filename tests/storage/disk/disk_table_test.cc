#include "storage/disk/disk_table.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/crc32c.h"
#include "storage/disk/data_dir.h"
#include "storage/disk/disk_import.h"
#include "storage/disk/disk_store.h"
#include "storage/disk/rocks_db.h"
#include "storage/table_digest.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

constexpr uint64_t kSmallBudget = 1 << 20;  // of the shard's 4.5 MB

// Two layers of two blocks each; rows of 33 bytes, 108 to a group.
class DiskTableTest : public ::testing::Test {
 protected:
  DiskTableTest() {
    tiny_.head_dim = 32;
    tiny_.bucket_floor = 17000;
    tiny_.WriteOneFile(checkpoint_.path());
    Checkpoint checkpoint = Checkpoint::Open(checkpoint_.path()).value();
    EXPECT_THAT(
        WriteSidecar(checkpoint.sidecar_path(), ComputeSidecar(checkpoint, 1, nullptr).value()),
        IsOk());
  }

  LoadOptions Options(Shard shard = {}, uint64_t budget = kSmallBudget) {
    LoadOptions options;
    options.checkpoint = checkpoint_.path();
    options.shard = shard;
    options.store = StoreKind::kRocksDb;
    options.memory_budget = budget;
    options.threads = 2;
    options.log = [this](absl::string_view line) {
      MutexLock lock(&mutex_);
      absl::StrAppend(&log_, line, "\n");
    };
    return options;
  }
  DiskOptions Disk() { return {data_.File("shard"), 4, false}; }
  absl::StatusOr<Table> Open(const LoadOptions& options) { return OpenDiskTable(options, Disk()); }
  std::string log() {
    MutexLock lock(&mutex_);
    return log_;
  }

  // All rows of a range, through StartGather; the failures' rows.
  std::vector<uint64_t> LostRows(const RowStore& store, const RowRange& range) {
    std::vector<uint64_t> lost;
    for (uint64_t begin = range.begin; begin < range.end; begin += 5000) {
      const uint64_t end = std::min(begin + 5000, range.end);
      std::vector<uint32_t> ids, sums(end - begin);
      for (uint64_t row = begin; row < end; ++row) ids.push_back(static_cast<uint32_t>(row));
      std::string out(ids.size() * 33, 'x');
      EXPECT_THAT(store.Check(range.layer, std::span<const uint32_t>(ids)), IsOk());
      PendingGather gather;
      gather.out = reinterpret_cast<uint8_t*>(out.data());
      gather.checksums = sums.data();
      Mutex mutex;
      CondVar changed;
      bool done = false;
      gather.done = [&] {
        MutexLock lock(&mutex);
        done = true;
        changed.NotifyAll();
      };
      if (!store.StartGather(range.layer, std::span<const uint32_t>(ids), gather)) {
        MutexLock lock(&mutex);
        while (!done) changed.Wait(&mutex);
      }
      EXPECT_THAT(gather.status, IsOk());
      std::vector<bool> failed(ids.size());
      for (const RowFailure& failure : gather.failures) {
        EXPECT_EQ(failure.code, Code::kDataLoss);
        failed[failure.position] = true;
        lost.push_back(ids[failure.position]);
      }
      const std::string rows = tiny_.Rows(range.layer);
      for (size_t i = 0; i < ids.size(); ++i) {
        const std::string row = out.substr(i * 33, 33);
        EXPECT_EQ(row, failed[i] ? std::string(33, '\0') : rows.substr(ids[i] * 33, 33));
        EXPECT_EQ(sums[i], Crc32c(row.data(), row.size()));
        if (HasFailure()) return lost;
      }
    }
    return lost;
  }
  void ExpectAllRows(const Table& table) {
    for (const RowRange& range : table.rows->ranges()) {
      EXPECT_EQ(LostRows(*table.rows, range), std::vector<uint64_t>());
    }
  }

  // The sorted files of the database, the largest first: rows, not the manifest.
  std::vector<std::string> SortedFiles() {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(data_.File("shard") + "/rows")) {
      if (absl::EndsWith(entry.path().string(), ".sst")) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end(), [](const std::string& a, const std::string& b) {
      return std::filesystem::file_size(a) > std::filesystem::file_size(b);
    });
    return files;
  }
  static void FlipBit(const std::string& path, size_t at) {
    std::string bytes = ReadTestFile(path);
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    WriteTestFile(path, bytes);
  }

  TempDir checkpoint_, data_;
  TinyCheckpoint tiny_;
  Mutex mutex_;
  std::string log_;
};

TEST_F(DiskTableTest, ShardsHoldEveryRowOfTheirs) {
  for (uint32_t i = 0; i < 3; ++i) {
    const TempDir data;
    ASSERT_OK_AND_ASSIGN(const Table table,
                         OpenDiskTable(Options({i, 3}), {data.File("d"), 4, i == 1}));
    EXPECT_EQ(table.rows->ranges(), ShardRanges(table.geometry, {i, 3}));
    EXPECT_TRUE(table.rows->may_wait());
    ExpectAllRows(table);
    ExpectAllRows(table);  // some from the cache
  }
  EXPECT_THAT(log(), testing::HasSubstr("importing: "));
  EXPECT_THAT(log(), testing::HasSubstr("is served from disk"));
}

TEST_F(DiskTableTest, OnceImportedTheCheckpointIsNotNeeded) {
  Sha256 digest{};
  {
    ASSERT_OK_AND_ASSIGN(const Table table, Open(Options({1, 2})));
    digest = table.digest;
  }
  LoadOptions options = Options({1, 2});
  options.checkpoint = "";
  {
    ASSERT_OK_AND_ASSIGN(const Table table, Open(options));
    EXPECT_EQ(table.digest, digest);
    EXPECT_EQ(table.model, "tiny");
    ExpectAllRows(table);
  }
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint_.path())) {
    if (entry.path().extension() == ".safetensors") std::filesystem::remove(entry.path());
  }
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options({1, 2})));
  ExpectAllRows(table);
}

// The format stays readable: this data directory was written by the format's first version, from
// the tiny checkpoint below. What is in the manifest stands there; rows come out of sorted files.
TEST_F(DiskTableTest, ReadsTheGoldenShard) {
  tiny_.heads = 1;
  tiny_.bucket_floor = 20;
  const std::string data = data_.File("shard");
  std::filesystem::copy("tests/storage/golden/disk-shard-v1", data,
                        std::filesystem::copy_options::recursive);
  LoadOptions options = Options({1, 2});
  options.checkpoint = "";
  ASSERT_OK_AND_ASSIGN(const Table table, Open(options));
  EXPECT_EQ(table.model, "tiny");
  EXPECT_EQ(ToHex(table.digest),
            "498539a9a857e95ebc27e5e7f1eee9f69c0aaa50847f91de8406b6a3afca74fd");
  EXPECT_EQ(table.geometry.params(), tiny_.DeriveGeometry().params());
  EXPECT_EQ(table.rows->layout(), PackedFp8Layout(32));
  EXPECT_EQ(table.rows->ranges(), ShardRanges(tiny_.DeriveGeometry(), {1, 2}));
  ExpectAllRows(table);
}

TEST_F(DiskTableTest, AShardThatFitsTheBudgetIsServedFromMemory) {
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options({}, 100 << 20)));
  EXPECT_FALSE(table.rows->may_wait());
  ExpectAllRows(table);
  EXPECT_THAT(log(), testing::HasSubstr("served from memory whole"));
}

TEST_F(DiskTableTest, RepeatedRowsComeFromTheCacheAndHotOnesAreKeptOverARestart) {
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < 3000; ++i) ids.push_back(i * 7);
  std::string out(ids.size() * 33, '\0');
  auto* const bytes = reinterpret_cast<uint8_t*>(out.data());
  {
    ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
    const auto& store = dynamic_cast<const DiskStore&>(*table.rows);
    ASSERT_THAT(store.Gather(1, std::span<const uint32_t>(ids), bytes, nullptr), IsOk());
    EXPECT_EQ(store.counts().rows_missed, ids.size());
    ASSERT_THAT(store.Gather(1, std::span<const uint32_t>(ids), bytes, nullptr), IsOk());
    EXPECT_LT(store.counts().rows_missed, ids.size() * 12 / 10);
  }
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
  auto& store = dynamic_cast<DiskStore&>(const_cast<RowStore&>(*table.rows));
  store.AwaitWarm();
  ASSERT_THAT(store.Gather(1, std::span<const uint32_t>(ids), bytes, nullptr), IsOk());
  EXPECT_LT(store.counts().rows_missed, ids.size() / 5);
  EXPECT_THAT(log(), testing::HasSubstr("rows that were hot before"));
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(out.substr(i * 33, 33), tiny_.Row(1, ids[i])) << i;
  }
}

// ---------------------------------------------------------------- damage

TEST_F(DiskTableTest, AFlippedBitLosesTheRowsOfItsBlockAlone) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  FlipBit(SortedFiles()[0], 5 * 4096 + 100);
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
  std::vector<uint64_t> lost;
  for (const RowRange& range : table.rows->ranges()) {
    const std::vector<uint64_t> of_layer = LostRows(*table.rows, range);
    lost.insert(lost.end(), of_layer.begin(), of_layer.end());
  }
  ASSERT_EQ(lost.size(), 108u);
  EXPECT_EQ(lost.back(), lost.front() + 107);
  EXPECT_FALSE(table.rows->state().failed());
  const auto& store = dynamic_cast<const DiskStore&>(*table.rows);
  EXPECT_EQ(store.counts().rows_lost, 108u);
  EXPECT_THAT(log(), testing::HasSubstr(absl::StrCat("row ", lost.front(), " of layer ")));
  std::vector<uint32_t> ids = {0, static_cast<uint32_t>(lost.front())};
  std::string out(66, '\0');
  uint64_t failed = 0;
  for (const uint32_t layer : {1u, 3u}) {
    const absl::Status status = store.Gather(layer, std::span<const uint32_t>(ids),
                                             reinterpret_cast<uint8_t*>(out.data()), nullptr);
    if (status.ok()) continue;
    ++failed;
    EXPECT_THAT(status, StatusIs(Code::kDataLoss, absl::StrCat("row ", ids[1], " of layer ")));
  }
  EXPECT_EQ(failed, 1u);
  // Verification names them and goes on.
  for (const RowRange& block : CutIntoBlocks(store.ranges())) {
    EXPECT_THAT(store.Verify(block), IsOk());
  }
  EXPECT_EQ(store.counts().rows_lost, 108u + 1 + 108);
}

TEST_F(DiskTableTest, AMissingFileLosesItsRowsAlone) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  std::filesystem::remove(SortedFiles()[0]);
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
  std::vector<size_t> lost;
  for (const RowRange& range : table.rows->ranges()) {
    lost.push_back(LostRows(*table.rows, range).size());
  }
  std::sort(lost.begin(), lost.end());
  EXPECT_EQ(lost[0], 0u);
  EXPECT_GT(lost[1], 68000u);
}

TEST_F(DiskTableTest, ACutFileLosesItsRowsAlone) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  std::filesystem::resize_file(SortedFiles()[0], 8192);
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
  uint64_t whole = 0;
  for (const RowRange& range : table.rows->ranges()) {
    whole += LostRows(*table.rows, range).empty();
  }
  EXPECT_EQ(whole, 1u);
}

TEST_F(DiskTableTest, WhatCannotAllBeReadIsServedFromDiskThoughItWouldFit) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  FlipBit(SortedFiles()[0], 3 * 4096 + 7);
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options({}, 100 << 20)));
  EXPECT_TRUE(table.rows->may_wait());
  EXPECT_THAT(log(), testing::HasSubstr("served from disk, since not all of it can be read"));
}

TEST_F(DiskTableTest, ADamagedManifestIsSaid) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  FlipBit(SortedFiles().back(), 40);
  EXPECT_THAT(Open(Options()), StatusIs(Code::kDataLoss, ""));
}

// ---------------------------------------------------------------- import

TEST_F(DiskTableTest, ACheckpointThatDiffersFromItsSidecarIsNotImported) {
  const Checkpoint checkpoint = Checkpoint::Open(checkpoint_.path()).value();
  const TensorPlace& weight = checkpoint.layers()[0].fields[0].pieces[0].place;
  const std::string path = checkpoint_.File(weight.file);
  FlipBit(path, weight.file_offset + 67000 * 32 + 5);
  EXPECT_THAT(Open(Options({1, 2})), StatusIs(Code::kDataLoss, "layer 1 rows [65536, 68"));
  FlipBit(path, weight.file_offset + 67000 * 32 + 5);
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options({1, 2})));
  ExpectAllRows(table);
}

// An import that ended after its first file: the second is there half, the first is not written
// again unless it is damaged.
TEST_F(DiskTableTest, AnImportGoesOnWhereItEnded) {
  const std::string import = data_.File("shard") + "/import";
  {
    const Checkpoint checkpoint = Checkpoint::Open(checkpoint_.path()).value();
    const Sidecar sidecar = ReadSidecar(checkpoint.sidecar_path()).value();
    const DataDir data_dir = DataDir::Hold(data_.File("shard")).value();
    ShardManifest manifest{"tiny",
                           sidecar.digest,
                           checkpoint.geometry(),
                           checkpoint.layout(),
                           checkpoint.token_map(),
                           {0, 1},
                           ShardRanges(checkpoint.geometry(), {0, 1}),
                           {}};
    // The second layer's file cannot be written: a directory is in its way.
    std::filesystem::create_directories(import + "/3-0.sst.unfinished");
    EXPECT_FALSE(
        ImportShard(data_dir, checkpoint, sidecar, manifest, {1, "importing", nullptr}).ok());
  }
  std::filesystem::remove(import + "/3-0.sst.unfinished");
  WriteTestFile(import + "/3-0.sst.unfinished", "half a file");
  const auto written = std::filesystem::last_write_time(import + "/1-0.sst");
  {
    EXPECT_THAT(Open(Options({0, 2})), StatusIs(Code::kFailedPrecondition,
                                                "an import of another shard or table was begun"));
    ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
    ExpectAllRows(table);
  }
  EXPECT_FALSE(std::filesystem::exists(import));
  const std::vector<std::string> files = SortedFiles();
  EXPECT_TRUE(std::any_of(files.begin(), files.end(), [&](const std::string& file) {
    return std::filesystem::last_write_time(file) == written;
  }));
}

TEST_F(DiskTableTest, AFileOfAnImportThatWasDamagedSinceIsWrittenAgain) {
  const std::string import = data_.File("shard") + "/import";
  std::filesystem::create_directories(import);
  WriteTestFile(import + "/1-0.sst", "not what was written");
  ASSERT_OK_AND_ASSIGN(const Table table, Open(Options()));
  ExpectAllRows(table);
}

// ---------------------------------------------------------------- bad input

TEST_F(DiskTableTest, ADatabaseOfAnotherShardOrTableIsRefused) {
  { ASSERT_THAT(Open(Options({1, 3})), IsOk()); }
  EXPECT_THAT(Open(Options({0, 3})), StatusIs(Code::kFailedPrecondition, "has shard 1/3 of"));
  LoadOptions options = Options({1, 3});
  options.expect_digest = Sha256{};
  EXPECT_THAT(Open(options), StatusIs(Code::kFailedPrecondition, "not the expected 0000"));
  TinyCheckpoint other = tiny_;
  other.seed = 8;
  const TempDir elsewhere;
  other.WriteOneFile(elsewhere.path());
  options = Options({1, 3});
  options.checkpoint = elsewhere.path();
  const Checkpoint checkpoint = Checkpoint::Open(elsewhere.path()).value();
  ASSERT_THAT(
      WriteSidecar(checkpoint.sidecar_path(), ComputeSidecar(checkpoint, 1, nullptr).value()),
      IsOk());
  EXPECT_THAT(Open(options),
              StatusIs(Code::kFailedPrecondition, "not that in " + elsewhere.path()));
}

TEST_F(DiskTableTest, ADatabaseOfANewerFormatIsRefused) {
  const std::string file = data_.File("manifest.sst");
  ASSERT_OK_AND_ASSIGN(const auto writer, RocksFileWriter::Create(file));
  ASSERT_THAT(writer->Put(kManifestKey, "\x08\x02"), IsOk());  // format: 2
  ASSERT_THAT(writer->Finish(), IsOk());
  std::filesystem::create_directories(data_.File("shard"));
  ASSERT_THAT(IngestRocksFiles(data_.File("shard") + "/rows", {file}), IsOk());
  EXPECT_THAT(Open(Options()),
              StatusIs(Code::kFailedPrecondition, "has format 2; this program reads format 1"));
}

TEST_F(DiskTableTest, ABudgetSmallerThanTheIndexIsRefused) {
  { ASSERT_THAT(Open(Options()), IsOk()); }
  EXPECT_THAT(Open(Options({}, 1000)),
              StatusIs(Code::kResourceExhausted, "bytes of memory; the budget is 1000"));
}

TEST_F(DiskTableTest, ADirectoryThatIsHeldOrEmptyIsRefused) {
  LoadOptions options = Options();
  options.checkpoint = "";
  EXPECT_THAT(Open(options), StatusIs(Code::kNotFound, "has no shard"));
  const DataDir held = DataDir::Hold(data_.File("shard")).value();
  EXPECT_THAT(Open(Options()), StatusIs(Code::kUnavailable, "is held by another process"));
  EXPECT_THAT(OpenDiskTable(Options(), {"", 1, false}),
              StatusIs(Code::kInvalidArgument, "--data-dir"));
}

}  // namespace
}  // namespace engram

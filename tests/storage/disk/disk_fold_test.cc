#include "storage/disk/disk_fold.h"

#include <atomic>
#include <random>

#include "storage/disk/disk_database.h"
#include "storage/disk/part_check.h"
#include "storage/disk/row_groups.h"
#include "tests/storage/disk/served_shard.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

class DiskFoldTest : public ServedShard {};

TEST_F(DiskFoldTest, ARetiredGenerationsDeltaBecomesTheDatabases) {
  ASSERT_THAT(Import(), IsOk());
  Change(0, 1);
  ASSERT_TRUE(Folded());
  for (const bool again : {false, true}) {
    if (again) {
      ASSERT_THAT(Start(), IsOk());
      EXPECT_EQ(table_->digest, digest_[1]);
    }
    EXPECT_EQ(Held(), "1*");
    ExpectRows();
    EXPECT_TRUE(FilesAre("delta-", 0));
    EXPECT_EQ(Files("fold"), 0u);
    EXPECT_TRUE(OverlaysOf(*generations_->current()->active().rows).empty());
    // Who has followed it finds the way on.
    EXPECT_EQ(generations_->current()->active().base, digest_[0]);
    EXPECT_EQ(generations_->current()->active().changed_rows, 0u);
  }
  // The next one, on what was folded.
  Change(1, 2);
  ASSERT_TRUE(Folded());
  for (const bool again : {false, true}) {
    if (again) {
      ASSERT_THAT(Start(), IsOk());
    }
    EXPECT_EQ(Held(), "2*");
    ExpectRows();
    EXPECT_EQ(generations_->current()->active().base, digest_[1]);
  }
  EXPECT_THAT(log(), testing::HasSubstr("4 rows of a delta were folded into the table"));
}

// A row that both change is the second's.
TEST_F(DiskFoldTest, SeveralDeltasAreFoldedAtOnceWhenNobodyReadsWhatTheyAreOn) {
  ASSERT_THAT(Import(), IsOk());
  auto reader = generations_->current();
  Change(0, 1);
  Change(1, 2);
  std::string rows;
  EXPECT_THAT(RowsOf(*reader->active().rows, rows), IsOk());
  EXPECT_EQ(rows, expected_[0]);
  EXPECT_EQ(OverlaysOf(*generations_->current()->active().rows).size(), 2u);
  EXPECT_EQ(table_->digest, ReadShardManifest(data_dir_ + "/rows")->digest);
  reader.reset();
  ASSERT_TRUE(Folded());
  ExpectRows();
  EXPECT_EQ(generations_->current()->active().base, digest_[0]);
  EXPECT_EQ(ReadShardManifest(data_dir_ + "/rows")->former, std::vector<Sha256>{digest_[0]});
  // And back to the first.
  Change(2, 0);
  ASSERT_TRUE(Folded());
  ASSERT_THAT(Import(), IsOk());
  EXPECT_EQ(Held(), "0*");
  ExpectRows();
  EXPECT_EQ(ReadShardManifest(data_dir_ + "/rows")->former, std::vector<Sha256>{digest_[2]});
  EXPECT_TRUE(FilesAre("delta-", 0));
}

TEST_F(DiskFoldTest, WhatIsBuiltOnAFoldedGenerationStays) {
  ASSERT_THAT(Import(), IsOk());
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(Publish(1, 2), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[1]), IsOk());
  ExpectRows();
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_TRUE(Folded());
  for (const bool again : {false, true}) {
    if (again) {
      ASSERT_THAT(Start(), IsOk());
    }
    EXPECT_EQ(Held(), "1*2");
    ExpectRows();
    EXPECT_EQ(generations_->current()->held()[1]->base, digest_[1]);
    EXPECT_EQ(generations_->current()->held()[1]->changed_rows, 3u);
    EXPECT_TRUE(FilesAre("delta-", 1));
  }
}

// Two generations on a retired one: that is what both share.
TEST_F(DiskFoldTest, ARetiredGenerationThatTwoAreBuiltOnIsFolded) {
  ASSERT_THAT(Import(), IsOk());
  auto reader = generations_->current();  // Nothing is folded while it reads.
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(Publish(1, 2), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[2]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_THAT(Publish(1, 0), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[1]), IsOk());
  ExpectRows();
  EXPECT_EQ(Files("delta-"), 3u);
  reader.reset();
  EXPECT_TRUE(FilesAre("delta-", 2));
  for (const bool again : {false, true}) {
    if (again) {
      ASSERT_THAT(Start(), IsOk());
    }
    EXPECT_EQ(Held(), "2*0");
    EXPECT_EQ(ReadShardManifest(data_dir_ + "/rows")->digest, digest_[1]);
    ExpectRows();
  }
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_TRUE(Folded());
  EXPECT_EQ(Held(), "2*");
  ExpectRows();
}

// Where the shard is the whole table, that can be told.
TEST_F(DiskFoldTest, RowsThatAreNotTheTargetsAreNotFolded) {
  ASSERT_THAT(Import(), IsOk());
  ASSERT_THAT(Publish(0, 1), IsOk());
  const auto set = generations_->current();
  const std::shared_ptr<const ChangedRows> changed =
      OverlaysOf(*set->held()[1]->rows)[0]->changed();
  EXPECT_THAT(table_->rows->Fold({&changed, 1}, digest_[2], [] { return false; }),
              StatusIs(kDataLoss, "not those of the table " + ToHex(digest_[2])));
  EXPECT_THAT(table_->rows->Fold({&changed, 1}, digest_[1], [] { return true; }),
              StatusIs(Code::kCancelled, ""));
  EXPECT_EQ(ReadShardManifest(data_dir_ + "/rows")->digest, digest_[0]);
  EXPECT_EQ(Files("fold"), 0u);
  ExpectRows();
}

TEST_F(DiskFoldTest, AnEarlierCheckpointOrDigestIsKnown) {
  ASSERT_THAT(Import(), IsOk());
  Change(0, 1);
  ASSERT_TRUE(Folded());
  for (const int known : {0, 1}) {
    LoadOptions options = Options();
    options.checkpoint = checkpoint_[known];
    options.expect_digest = digest_[known];
    ASSERT_THAT(Start(options), IsOk());
    EXPECT_EQ(Held(), "1*");
    ExpectRows();
  }
  EXPECT_THAT(log(),
              testing::HasSubstr(absl::StrCat("has the table ", ToHex(digest_[1]),
                                              ", a later generation of ", ToHex(digest_[0]))));
  LoadOptions other = Options();
  other.checkpoint = checkpoint_[2];
  EXPECT_THAT(Start(other), StatusIs(Code::kFailedPrecondition, "not that in " + checkpoint_[2]));
  other.checkpoint = "";
  other.expect_digest = digest_[2];
  EXPECT_THAT(Start(other),
              StatusIs(Code::kFailedPrecondition, "not the expected " + ToHex(digest_[2])));
}

// Its sums are those of the new rows.
TEST_F(DiskFoldTest, WhatWasFoldedIsLoadedIntoMemoryWhole) {
  ASSERT_THAT(Import(), IsOk());
  Change(0, 2);
  ASSERT_TRUE(Folded());
  LoadOptions options = Options();
  options.memory_budget = uint64_t{1} << 30;
  ASSERT_THAT(Start(options), IsOk());
  EXPECT_FALSE(table_->rows->may_wait());
  EXPECT_EQ(Held(), "2*");
  ExpectRows();
  // There a delta is folded in memory, and again after a restart.
  Change(2, 1);
  ASSERT_TRUE(Folded());
  ExpectRows();
  EXPECT_TRUE(FilesAre("delta-", 1));
  ASSERT_THAT(Start(), IsOk());
  ASSERT_TRUE(Folded());
  EXPECT_EQ(Held(), "1*");
  ExpectRows();
  EXPECT_TRUE(FilesAre("delta-", 0));
}

TEST_F(DiskFoldTest, AShardOfATableIsFolded) {
  LoadOptions options = Options();
  options.checkpoint = checkpoint_[0];
  options.shard = {1, 3};
  ASSERT_THAT(Start(options), IsOk());
  ranges_ = table_->rows->ranges();
  std::string rows[kTables];
  for (int i = 0; i < kTables; ++i) {
    LoadOptions in_memory;
    in_memory.checkpoint = checkpoint_[i];
    in_memory.shard = options.shard;
    EXPECT_THAT(RowsOf(*LoadTable(in_memory)->rows, rows[i]), IsOk());
    expected_[i] = rows[i];
  }
  // Its part of the delta: the rows of its ranges.
  const std::string part = dir_.File("part");
  {
    ASSERT_OK_AND_ASSIGN(const auto reader, DeltaReader::Open(Delta(0, 1)));
    ASSERT_OK_AND_ASSIGN(const auto writer, DeltaWriter::Create(part, reader->header()));
    for (auto row = reader->Next().value(); row.has_value(); row = reader->Next().value()) {
      const uint32_t layer = reader->header().layers[row->layer_index].layer;
      const bool held = std::any_of(ranges_.begin(), ranges_.end(), [&](const RowRange& range) {
        return range.layer == layer && range.begin <= row->row && row->row < range.end;
      });
      if (held) {
        ASSERT_THAT(writer->Add(*row), IsOk());
      }
    }
    ASSERT_THAT(writer->Finish(), IsOk());
  }
  std::filesystem::rename(part, Delta(0, 1));
  Change(0, 1);
  ASSERT_TRUE(Folded());
  ExpectRows();
  options.checkpoint = "";
  ASSERT_THAT(Start(options), IsOk());
  EXPECT_EQ(Held(), "1*");
  ExpectRows();
}

// Levels run out after five folds: then the files are merged.
TEST_F(DiskFoldTest, FilesOfManyFoldsAreMerged) {
  ASSERT_THAT(Import(), IsOk());
  const DiskDatabase reader = OpenDiskDatabase(data_dir_ + "/rows", false).value();
  std::vector<size_t> files;
  for (int round = 0; round < 13; ++round) {
    Change(round % 3, (round + 1) % 3);
    ASSERT_TRUE(Folded());
    ExpectRows();
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(data_dir_ + "/rows")) {
      count += entry.path().extension() == ".sst";
    }
    files.push_back(count);
  }
  EXPECT_LE(*std::max_element(files.begin(), files.end()), 3u + 2 * 5);
  EXPECT_LT(files[5], files[4]);
  // Who had opened it before reads the first table, though its files are gone.
  std::string rows;
  for (const RowRange& part : CutIntoBlocks(ranges_)) {
    const RowGroups groups(reader.manifest.layout);
    PartCheck check(groups, part);
    const GroupKey begin(part.layer, 0), end(part.layer, uint64_t{1} << 40);
    const auto take = [&](absl::string_view key, absl::string_view value) {
      return check.Take(key, value, [&](uint64_t, const uint8_t* row, uint32_t) {
        rows.append(reinterpret_cast<const char*>(row), kRowBytes);
      });
    };
    EXPECT_THAT(reader.rows->Scan(begin.view(), end.view(), take), IsOk());
  }
  EXPECT_EQ(rows, expected_[0]);
  ASSERT_THAT(Start(), IsOk());
  EXPECT_EQ(Held(), "1*");
  ExpectRows();
}

// A row of a group that is to be written anew, which the delta does not change.
TEST_F(DiskFoldTest, ADamagedGroupKeepsItsDelta) {
  ASSERT_THAT(Import(), IsOk());
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[1]), IsOk());
  Stop();
  {
    // In a file of its own, as RocksDB would never find it.
    const DiskDatabase database = OpenDiskDatabase(data_dir_ + "/rows", false).value();
    const GroupKey key(1, 0);
    std::string group = database.rows->Get(key.view()).value();
    group[7] = static_cast<char>(group[7] ^ 4);
    const std::string file = dir_.File("damaged.sst");
    ASSERT_OK_AND_ASSIGN(const auto writer, RocksFileWriter::Create(file));
    ASSERT_THAT(writer->Put(key.view(), group), IsOk());
    ASSERT_THAT(writer->Finish(), IsOk());
    ASSERT_THAT(IngestRocksFiles(data_dir_ + "/rows", {file}), IsOk());
  }
  ASSERT_THAT(Start(), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  const auto said = [&] { return log().find("stays in memory: ") != std::string::npos; };
  while (!said() && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_THAT(log(), testing::HasSubstr("row 0 of layer 1 differs from its checksum"));
  EXPECT_EQ(table_->digest, ReadShardManifest(data_dir_ + "/rows")->digest);
  EXPECT_TRUE(FilesAre("delta-", 1));
  EXPECT_EQ(Files("fold"), 0u);
}

TEST_F(DiskFoldTest, ACatalogueThatDoesNotLeadToTheDatabaseIsRefused) {
  ASSERT_THAT(Import(), IsOk());
  ASSERT_THAT(Publish(0, 1), IsOk());
  const std::string catalogue = ReadTestFile(data_dir_ + "/catalogue");
  ASSERT_THAT(generations_->Activate(digest_[1]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_TRUE(Folded());
  Stop();
  WriteTestFile(data_dir_ + "/catalogue", catalogue);  // in which the first is served
  EXPECT_THAT(Start(), StatusIs(Code::kInvalidArgument,
                                "holds deltas on the table of digest " + ToHex(digest_[0])));
}

TEST_F(DiskFoldTest, ReadersSeeNoWrongRowWhileGenerationsAreFolded) {
  ASSERT_THAT(Import(), IsOk());
  std::atomic<bool> over{false};
  std::atomic<uint64_t> read{0}, wrong{0};
  const auto reader = [&](uint32_t seed) {
    std::mt19937 random(seed);
    while (!over) {
      const auto set = generations_->current();
      const auto held = set->held()[random() % set->held().size()];
      std::string rows;
      const absl::Status status = RowsOf(*held->rows, rows);
      if (!status.ok() || rows != expected_[TableOf(held->digest)]) ++wrong;
      ++read;
    }
  };
  std::vector<std::thread> readers;
  for (uint32_t i = 0; i < 3; ++i) readers.emplace_back(reader, i);
  for (int round = 0; round < 20; ++round) {
    Change(round % 3, (round + 1) % 3);
    if (round % 4 != 1) {
      EXPECT_TRUE(Folded());
    }
  }
  EXPECT_TRUE(Folded());
  over = true;
  for (std::thread& each : readers) each.join();
  EXPECT_GT(read, 20u);
  EXPECT_EQ(wrong, 0u);
  ASSERT_THAT(Start(), IsOk());
  EXPECT_EQ(Held(), "2*");
  ExpectRows();
}

}  // namespace
}  // namespace engram

#include "storage/generations.h"

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "proto/crc32c.h"
#include "storage/delta.h"
#include "storage/overlay_store.h"
#include "storage/verifier.h"
#include "tests/support/changed_checkpoint.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/failing_sync.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

// Three tables, each with some rows of the one before changed, and the deltas between them.
class GenerationsTest : public ::testing::Test {
 protected:
  static constexpr int kTables = 3;

  GenerationsTest() {
    tiny_.head_dim = 32;
    tiny_.bucket_floor = 300;
    std::filesystem::create_directory(checkpoint_[0]);
    tiny_.WriteOneFile(checkpoint_[0]);
    WriteChanged(checkpoint_[0], checkpoint_[1], {{0, 3}, {0, 4}, {0, 700}, {1, 0}});
    WriteChanged(checkpoint_[1], checkpoint_[2], {{0, 4}, {0, 5}, {1, 900}});
    for (int i = 0; i < kTables; ++i) {
      digest_[i] = Load(i, {})->digest;
      if (i > 0) WriteDeltaTo(i - 1, i);
    }
    Start();
  }

  std::string DeltaFile(int from, int to) {
    return dir_.File("delta" + std::to_string(from) + std::to_string(to));
  }
  void WriteDeltaTo(int from, int to) {
    EXPECT_THAT(WriteDelta({checkpoint_[from], checkpoint_[to], DeltaFile(from, to), 1, nullptr}),
                IsOk());
  }
  std::shared_ptr<const Table> Load(int table, Shard shard, StoreKind store = StoreKind::kMemory) {
    LoadOptions options;
    options.checkpoint = checkpoint_[table];
    options.shard = shard;
    options.store = store;
    options.threads = 1;
    auto loaded = LoadTable(options);
    EXPECT_THAT(loaded, IsOk());
    return std::make_shared<const Table>(*std::move(loaded));
  }
  // A server's start, or its restart.
  void Start(StoreKind store = StoreKind::kMemory) {
    generations_.reset();
    auto opened = Generations::Open(Load(0, {}, store), data_dir_, nullptr);
    ASSERT_THAT(opened, IsOk());
    generations_ = *std::move(opened);
  }
  // All of a delta file, `piece_rows` rows at a time.
  absl::Status Publish(const std::string& bytes, size_t piece_rows = 2) {
    size_t header_bytes = 0;
    auto header = DecodeDeltaHeader(bytes, "the file", header_bytes);
    if (!header.ok()) return header.status();
    absl::string_view left = absl::string_view(bytes).substr(header_bytes);
    for (uint64_t first = 0;;) {
      const absl::string_view records = left.substr(0, piece_rows * header->record_bytes());
      left.remove_prefix(records.size());
      const absl::Status status = generations_->Publish(
          {header->target, absl::string_view(bytes).substr(0, first == 0 ? header_bytes : 0), first,
           records, left.empty()});
      if (!status.ok() || left.empty()) return status;
      first += records.size() / header->record_bytes();
    }
  }
  absl::Status Publish(int from, int to) { return Publish(ReadTestFile(DeltaFile(from, to))); }

  // Every row of the generation is that of a fresh load of the table, and so are the checksums.
  void ExpectServed(int table) {
    SCOPED_TRACE(table);
    const auto held = generations_->current()->Find(digest_[table]);
    ASSERT_NE(held, nullptr);
    ExpectRows(*held->rows, table);
  }
  void ExpectRows(const RowStore& rows, int table) {
    const auto fresh = Load(table, {});
    for (const RowRange& range : fresh->rows->ranges()) {
      std::vector<uint32_t> ids;
      for (uint64_t row = range.begin; row < range.end; ++row) {
        ids.push_back(static_cast<uint32_t>(row));
      }
      const auto gather = [&](const RowStore& store, std::vector<uint32_t>& sums) {
        std::string out(ids.size() * 33, '\0');
        sums.resize(ids.size());
        EXPECT_THAT(store.Gather(range.layer, std::span<const uint32_t>(ids),
                                 reinterpret_cast<uint8_t*>(out.data()), sums.data()),
                    IsOk());
        return out;
      };
      std::vector<uint32_t> sums, fresh_sums;
      EXPECT_EQ(gather(rows, sums), gather(*fresh->rows, fresh_sums));
      EXPECT_EQ(sums, fresh_sums);
      EXPECT_THAT(rows.Verify(range), IsOk());
    }
  }
  // What is held, by table; the active one has a `*`.
  std::string Held() {
    std::string text;
    const auto set = generations_->current();
    for (size_t i = 0; i < set->held().size(); ++i) {
      for (int table = 0; table < kTables; ++table) {
        if (digest_[table] == set->held()[i]->digest) text += std::to_string(table);
      }
      if (set->IsActive(i)) text += "*";
    }
    return text;
  }
  // Files in the data directory that begin like that.
  size_t Files(const std::string& prefix) {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(data_dir_)) {
      count += entry.path().filename().string().starts_with(prefix);
    }
    return count;
  }
  bool FoldedBy(absl::Time deadline) {
    while (absl::Now() < deadline) {
      const auto set = generations_->current();
      if (std::all_of(set->held().begin(), set->held().end(),
                      [](const auto& held) { return OverlaysOf(*held->rows).empty(); })) {
        return true;
      }
      std::this_thread::yield();
    }
    return false;
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
  const std::string checkpoint_[kTables] = {dir_.File("t0"), dir_.File("t1"), dir_.File("t2")};
  const std::string data_dir_ = dir_.File("data");
  Sha256 digest_[kTables];
  std::unique_ptr<Generations> generations_;
};

TEST_F(GenerationsTest, OldAndNewAreServedSideBySideAndLast) {
  EXPECT_EQ(Held(), "0*");
  ASSERT_THAT(Publish(0, 1), IsOk());
  EXPECT_EQ(Held(), "0*1");
  ASSERT_THAT(Publish(1, 2), IsOk());
  for (const bool again : {false, true}) {
    if (again) Start();
    EXPECT_EQ(Held(), "0*12");
    for (int table = 0; table < kTables; ++table) ExpectServed(table);
    EXPECT_EQ(generations_->current()->held()[2]->base, digest_[1]);
    EXPECT_EQ(generations_->current()->held()[2]->changed_rows, 3u);
  }
  ASSERT_THAT(generations_->Activate(digest_[2]), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[2]), IsOk());
  EXPECT_EQ(Held(), "012*");
  ASSERT_THAT(generations_->Retire(digest_[1]), IsOk());
  for (const bool again : {false, true}) {
    if (again) Start();
    EXPECT_EQ(Held(), "02*");
    ExpectServed(0);
    ExpectServed(2);
  }
}

TEST_F(GenerationsTest, RetiredDeltasAreFoldedIntoTheTable) {
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(Publish(1, 2), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[2]), IsOk());
  // Who is still reading the old generation goes on to read it.
  auto reader = generations_->current()->Find(digest_[0]);
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[1]), IsOk());
  ExpectRows(*reader->rows, 0);
  EXPECT_FALSE(OverlaysOf(*generations_->current()->active().rows).empty());
  reader.reset();
  ASSERT_TRUE(FoldedBy(absl::Now() + absl::Seconds(20)));
  ExpectServed(2);
  // On disk one delta is left of the two, which is folded again after a restart.
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (Files("delta-") != 1 && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(Files("delta-"), 1u);
  EXPECT_EQ(generations_->current()->active().base, digest_[0]);
  Start();
  EXPECT_EQ(Held(), "2*");
  ExpectServed(2);
  ASSERT_TRUE(FoldedBy(absl::Now() + absl::Seconds(20)));
  ExpectServed(2);
  // And back: a delta to a table that was retired.
  WriteDeltaTo(2, 0);
  ASSERT_THAT(Publish(2, 0), IsOk());
  ExpectServed(0);
  ExpectServed(2);
}

TEST_F(GenerationsTest, WhatIsBuiltOnNothingIsRemoved) {
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(Publish(1, 2), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[1]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[2]), IsOk());
  EXPECT_EQ(Files("delta-"), 0u);
  EXPECT_EQ(Held(), "0*");
}

TEST_F(GenerationsTest, ChangedRowsAreVerifiedWithTheTable) {
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(Publish(1, 2), IsOk());
  const auto held = generations_->current()->held();
  const RowStore& table = *held[0]->rows;
  StoreState& state = table.state();
  VerifierOptions options;
  options.served = [&] {
    std::vector<std::shared_ptr<const RowStore>> served;
    for (const auto& each : held) served.push_back(each->rows);
    return served;
  };
  const auto verify = [&] {
    const uint64_t passes = state.verified_passes;
    const Verifier verifier(table, options);
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (state.verified_passes == passes && !state.failed() && absl::Now() < limit) {
      std::this_thread::yield();
    }
    return state.verified_passes == passes + 1;
  };
  EXPECT_TRUE(verify());
  const ChangedRows::Layer& layer = *OverlaysOf(*held[2]->rows).back()->changed()->FindLayer(1);
  const_cast<uint8_t*>(layer.rows)[layer.index.LowerBound(5) * 33 + 7] ^= 4;
  EXPECT_FALSE(verify());
  EXPECT_THAT(state.failure(), StatusIs(kDataLoss, "changed row 5 of layer 1 differs in memory"));
}

TEST_F(GenerationsTest, AMappedTableKeepsItsOverlay) {
  Start(StoreKind::kMapped);
  ASSERT_THAT(Publish(0, 1), IsOk());
  ASSERT_THAT(generations_->Activate(digest_[1]), IsOk());
  ASSERT_THAT(generations_->Retire(digest_[0]), IsOk());
  ExpectServed(1);
  Start(StoreKind::kMapped);
  ExpectServed(1);
}

TEST_F(GenerationsTest, BadDeltasLeaveEverythingAsItWas) {
  const std::string sound = ReadTestFile(DeltaFile(0, 1));
  size_t header_bytes = 0;
  const auto header = DecodeDeltaHeader(sound, "", header_bytes).value();
  const size_t record = header.record_bytes();
  const std::string front = sound.substr(0, header_bytes);
  const auto row = [&](size_t i) { return sound.substr(header_bytes + i * record, record); };
  EXPECT_THAT(Publish(sound.substr(0, sound.size() - record)),
              StatusIs(Code::kDataLoss, "cut off: 3 of 4 rows came"));
  EXPECT_THAT(Publish(sound.substr(0, sound.size() - 1)),
              StatusIs(Code::kInvalidArgument, "ends within a row"));
  EXPECT_THAT(Publish(front + row(1) + row(0) + row(2) + row(3)),
              StatusIs(Code::kDataLoss, "out of order"));
  EXPECT_THAT(Publish(front + row(0) + row(0) + row(2) + row(3)),
              StatusIs(Code::kDataLoss, "out of order"));
  EXPECT_THAT(Publish(sound + row(3)), StatusIs(Code::kDataLoss, "more rows than its header"));
  std::string damaged = sound;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  EXPECT_THAT(Publish(damaged), StatusIs(Code::kDataLoss, "differs from its checksum"));
  // Of another base.
  EXPECT_THAT(Publish(1, 2), StatusIs(Code::kFailedPrecondition, ToHex(digest_[1])));
  EXPECT_EQ(Held(), "0*");
  EXPECT_EQ(Files("delta-"), 0u);
  ASSERT_THAT(Publish(sound), IsOk());
  // Twice is once.
  ASSERT_THAT(Publish(sound), IsOk());
  EXPECT_EQ(Held(), "0*1");
  EXPECT_EQ(Files("delta-"), 1u);
}

// A delta that says it is of this base, and whose rows are not.
TEST_F(GenerationsTest, RowsOfAnotherBaseAreRefused) {
  ASSERT_OK_AND_ASSIGN(const auto reader, DeltaReader::Open(DeltaFile(1, 2)));
  DeltaHeader header = reader->header();
  const std::shared_ptr<const Table> table0 = Load(0, {});
  ASSERT_OK_AND_ASSIGN(const auto honest, DeltaReader::Open(DeltaFile(0, 1)));
  header.base = honest->header().base;
  header.base_sum = honest->header().base_sum;
  RowSum reached = header.base_sum;
  reached += header.change;
  header.target_sum = reached;
  header.target = TableDigest(table0->geometry, table0->rows->layout(), std::nullopt, reached);
  const std::string bytes = ReadTestFile(DeltaFile(1, 2));
  const std::string forged =
      EncodeDeltaHeader(header) + bytes.substr(EncodeDeltaHeader(reader->header()).size());
  EXPECT_THAT(Publish(forged),
              StatusIs(Code::kFailedPrecondition, "row 4 of layer 1 is not the one"));
  EXPECT_EQ(Held(), "0*");
  EXPECT_EQ(Files("delta-"), 0u);
}

TEST_F(GenerationsTest, ADeltaOfAnotherShapeIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto reader, DeltaReader::Open(DeltaFile(0, 1)));
  const DeltaHeader sound = reader->header();
  const auto publish = [&](const DeltaHeader& header) {
    return generations_->Publish({header.target, EncodeDeltaHeader(header), 0, "", false});
  };
  DeltaHeader header = sound;
  header.layers.pop_back();
  EXPECT_THAT(publish(header), StatusIs(Code::kInvalidArgument, "changes the table's geometry"));
  header = sound;
  header.layers[0].rows += 1;
  EXPECT_THAT(publish(header), StatusIs(Code::kInvalidArgument, "changes the table's geometry"));
  header = sound;
  header.row_bytes += 1;
  EXPECT_THAT(publish(header), StatusIs(Code::kInvalidArgument, "row layout"));
  header = sound;
  header.target[0] ^= 1;  // as of another token map
  EXPECT_THAT(publish(header), StatusIs(Code::kInvalidArgument, "token map"));
}

TEST_F(GenerationsTest, PiecesThatDoNotFollowAreRefused) {
  const std::string bytes = ReadTestFile(DeltaFile(0, 1));
  size_t header_bytes = 0;
  const auto header = DecodeDeltaHeader(bytes, "", header_bytes).value();
  const std::string front = bytes.substr(0, header_bytes);
  const std::string rows = bytes.substr(header_bytes);
  EXPECT_THAT(generations_->Publish({header.target, "", 1, rows, true}),
              StatusIs(Code::kFailedPrecondition, "does not follow"));
  ASSERT_THAT(generations_->Publish(
                  {header.target, front, 0, rows.substr(0, header.record_bytes()), false}),
              IsOk());
  EXPECT_THAT(generations_->Publish({header.target, "", 2, rows, true}),
              StatusIs(Code::kFailedPrecondition, "does not follow"));
  EXPECT_EQ(Files("delta-"), 0u);
}

TEST_F(GenerationsTest, ActivateAndRetireSayWhatTheyCannotDo) {
  EXPECT_THAT(generations_->Activate(digest_[1]), StatusIs(Code::kNotFound, ToHex(digest_[1])));
  EXPECT_THAT(generations_->Retire(digest_[1]), StatusIs(Code::kNotFound, ToHex(digest_[1])));
  EXPECT_THAT(generations_->Retire(digest_[0]),
              StatusIs(Code::kFailedPrecondition, "is the active one"));
}

TEST_F(GenerationsTest, WithoutADataDirectoryNothingIsPublished) {
  generations_ = std::make_unique<Generations>(Load(0, {}));
  EXPECT_THAT(Publish(0, 1), StatusIs(Code::kFailedPrecondition, "without --data-dir"));
  EXPECT_EQ(Held(), "0*");
}

TEST_F(GenerationsTest, TheDataDirectoryIsOfOneTableShardAndProcess) {
  EXPECT_THAT(Generations::Open(Load(0, {}), data_dir_, nullptr),
              StatusIs(Code::kFailedPrecondition, "is another process's"));
  generations_.reset();
  EXPECT_THAT(Generations::Open(Load(1, {}), data_dir_, nullptr),
              StatusIs(Code::kInvalidArgument, "the checkpoint's is " + ToHex(digest_[1])));
  EXPECT_THAT(Generations::Open(Load(0, {0, 2}), data_dir_, nullptr),
              StatusIs(Code::kInvalidArgument, "another shard than 0/2"));
}

TEST_F(GenerationsTest, LeftoversAreRemovedAndDamageIsNoticed) {
  ASSERT_THAT(Publish(0, 1), IsOk());
  generations_.reset();
  WriteTestFile(data_dir_ + "/delta-77", "x");
  WriteTestFile(data_dir_ + "/delta-3.tmp.1", "x");
  Start();
  EXPECT_EQ(Files("delta-"), 1u);
  generations_.reset();
  std::string bytes = ReadTestFile(data_dir_ + "/delta-2");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  WriteTestFile(data_dir_ + "/delta-2", bytes);
  EXPECT_THAT(Generations::Open(Load(0, {}), data_dir_, nullptr),
              StatusIs(Code::kDataLoss, "differs from its checksum"));
}

// The new catalogue is in its place, and nobody knows whether it lasts.
TEST_F(GenerationsTest, ACatalogueThatCouldNotBeSyncedIsOpenedAgain) {
  constexpr int kOfTheDelta = 1;  // is synced before the catalogue
  directory_syncs_before_failure = kOfTheDelta;
  EXPECT_FALSE(Publish(0, 1).ok());
  EXPECT_EQ(directory_syncs_before_failure, -1);
  EXPECT_EQ(Held(), "0*");
  Start();
  EXPECT_EQ(Held(), "0*1");
  ExpectServed(1);
}

TEST_F(GenerationsTest, TheIdOfADeltaThatMayBeNamedIsNotUsedAgain) {
  directory_syncs_before_failure = 1;
  EXPECT_FALSE(Publish(0, 1).ok());
  WriteDeltaTo(0, 2);
  ASSERT_THAT(Publish(0, 2), IsOk());
  EXPECT_TRUE(std::filesystem::exists(data_dir_ + "/delta-3"));
  Start();
  EXPECT_EQ(Held(), "0*2");
  ExpectServed(2);
  EXPECT_EQ(Files("delta-"), 1u);
}

// Readers of whatever is held compare every row while generations come and go.
TEST_F(GenerationsTest, ReadersSeeNoWrongRowWhileGenerationsComeAndGo) {
  WriteDeltaTo(2, 0);
  std::vector<std::string> expected[kTables];  // by layer
  std::vector<std::vector<uint32_t>> ids;
  for (int table = 0; table < kTables; ++table) {
    const auto fresh = Load(table, {});
    ids.clear();
    for (const RowRange& range : fresh->rows->ranges()) {
      std::vector<uint32_t>& layer = ids.emplace_back();
      for (uint64_t row = 0; row < range.end; ++row) layer.push_back(static_cast<uint32_t>(row));
      std::string& out = expected[table].emplace_back(layer.size() * 33, '\0');
      ASSERT_THAT(fresh->rows->Gather(range.layer, std::span<const uint32_t>(layer),
                                      reinterpret_cast<uint8_t*>(out.data()), nullptr),
                  IsOk());
    }
  }
  std::atomic<bool> over{false};
  std::atomic<uint64_t> read{0}, wrong{0};
  const auto reader = [&](uint32_t seed) {
    std::mt19937 random(seed);
    while (!over) {
      const auto set = generations_->current();
      const auto held = set->held()[random() % set->held().size()];
      const auto table =
          static_cast<size_t>(std::find(digest_, digest_ + kTables, held->digest) - digest_);
      for (size_t layer = 0; layer < ids.size(); ++layer) {
        std::string out(ids[layer].size() * 33, '\0');
        const absl::Status status =
            held->rows->Gather(tiny_.layer_ids[layer], std::span<const uint32_t>(ids[layer]),
                               reinterpret_cast<uint8_t*>(out.data()), nullptr);
        if (!status.ok() || out != expected[table][layer]) ++wrong;
        ++read;
      }
    }
  };
  std::vector<std::thread> readers;
  for (uint32_t i = 0; i < 3; ++i) readers.emplace_back(reader, i);
  int at = 0;
  for (int round = 0; round < 30; ++round) {
    const int next = (at + 1) % kTables;
    ASSERT_THAT(Publish(at, next), IsOk());
    ASSERT_THAT(generations_->Activate(digest_[next]), IsOk());
    if (round % 3 != 1) {
      ASSERT_THAT(generations_->Retire(digest_[at]), IsOk());
    }
    if (round % 3 == 2) {
      ASSERT_THAT(generations_->Retire(digest_[(at + kTables - 1) % kTables]), IsOk());
      EXPECT_TRUE(FoldedBy(absl::Now() + absl::Seconds(20)));
    }
    at = next;
  }
  over = true;
  for (std::thread& each : readers) each.join();
  EXPECT_GT(read, 0u);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(Held(), "0*");
  ExpectServed(0);
  Start();
  EXPECT_EQ(Held(), "0*");
  ExpectServed(0);
}

}  // namespace
}  // namespace engram

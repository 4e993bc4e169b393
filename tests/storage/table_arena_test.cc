// Tables whose rows live in a file that outlives the process.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/crc32c.h"
#include "storage/arena_file.h"
#include "storage/sidecar.h"
#include "storage/table.h"
#include "storage/table_digest.h"
#include "storage/verifier.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr uint32_t kRowBytes = 33;
constexpr char kShm[] = "/dev/shm";

class TableArenaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!ArenaDirectory::Look(kShm).ok()) GTEST_SKIP() << kShm << " is no tmpfs: NOT TESTED";
    arenas_.emplace(kShm);
    tiny_.head_dim = 32;
    tiny_.bucket_floor = 17000;
    tiny_.WriteOneFile(dir_.path());
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    sidecar_ = ComputeSidecar(checkpoint, 1, nullptr).value();
    ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar_), IsOk());
  }
  LoadOptions Options(Shard shard = {}) {
    log_.clear();
    LoadOptions options;
    options.checkpoint = dir_.path();
    options.arena_dir = arenas_->path();
    options.shard = shard;
    options.threads = 2;
    options.log = [this](absl::string_view line) { absl::StrAppend(&log_, line, "\n"); };
    return options;
  }
  // Zeros in place of the checkpoint's rows: whoever reads them fails.
  void DamageCheckpoint() {
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    for (const LayerTensors& layer : checkpoint.layers()) {
      const TensorPlace& weight = layer.fields[0].pieces[0].place;
      std::fstream file(dir_.File(weight.file), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(weight.file_offset));
      file << std::string(weight.bytes, '\0');
    }
  }
  std::string ArenaPath(Shard shard = {}) {
    const Geometry geometry = tiny_.DeriveGeometry();
    return arenas_->File(ArenaFileName({sidecar_.digest, kRowBytes, ShardRanges(geometry, shard)}));
  }
  // Flips one bit of the arena: of a row or of its checksum, by their places.
  void Flip(uint64_t place, bool checksum) {
    const std::string path = ArenaPath();
    const ArenaHeader header = ArenaHeader::Parse(ReadTestFile(path), path).value();
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(checksum ? header.checksums_offset + place * 4
                                                         : header.rows_offset + place * kRowBytes);
    file.seekg(at);
    const char byte = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x10));
  }
  absl::Status Gather(const Table& table, const RowRange& range, std::string& out) {
    std::vector<uint32_t> ids, sums(range.rows());
    for (uint64_t row = range.begin; row < range.end; ++row) {
      ids.push_back(static_cast<uint32_t>(row));
    }
    out.resize(range.rows() * kRowBytes);
    return table.rows->Gather(range.layer, std::span<const uint32_t>(ids),
                              reinterpret_cast<uint8_t*>(out.data()), sums.data());
  }
  void ExpectRows(const Table& table) {
    for (const RowRange& range : table.rows->ranges()) {
      std::string out;
      ASSERT_THAT(Gather(table, range, out), IsOk());
      EXPECT_TRUE(out == tiny_.Rows(range.layer).substr(range.begin * kRowBytes, out.size()));
    }
  }
  void ExpectLoadedAnew(const std::string& reason) {
    {
      ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
      EXPECT_THAT(log_, HasSubstr(reason));
      EXPECT_THAT(log_, HasSubstr(": loading anew"));
      EXPECT_EQ(table.rows->state().verified_passes, 1u);
      EXPECT_FALSE(table.rows->state().failed());
      ExpectRows(table);
    }
    ExpectTaken();
  }
  void ExpectTaken() {
    ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
    EXPECT_THAT(log_, HasSubstr(ArenaPath() + ": 0.00 GB taken as they are"));
    EXPECT_THAT(log_, testing::Not(HasSubstr("loading")));
    EXPECT_EQ(table.digest, sidecar_.digest);
    EXPECT_EQ(table.rows->state().verified_passes, 0u);
    ExpectRows(table);
    EXPECT_THAT(VerifyAll(*table.rows, {1, "verifying", nullptr}), IsOk());
  }

  TempDir dir_;
  std::optional<TempDir> arenas_;
  TinyCheckpoint tiny_;
  Sidecar sidecar_;
  std::string log_;
};

TEST_F(TableArenaTest, TheNextProcessDoesNotReadTheTables) {
  {
    ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
    EXPECT_THAT(log_, HasSubstr("loading: "));
    EXPECT_THAT(log_, HasSubstr(ArenaPath() + ": complete"));
    EXPECT_EQ(table.rows->state().verified_passes, 1u);
    ExpectRows(table);
  }
  DamageCheckpoint();
  ExpectTaken();
}

TEST_F(TableArenaTest, AFailedLoadLeavesNothingToTake) {
  DamageCheckpoint();
  EXPECT_THAT(LoadTable(Options()), StatusIs(kDataLoss, "differ from the sums in"));
  EXPECT_EQ(fs::file_size(ArenaPath()), 0u);
  EXPECT_THAT(LoadTable(Options()), StatusIs(kDataLoss, "differ from the sums in"));
}

TEST_F(TableArenaTest, ADamagedRowOrChecksumIsFoundBeforeServing) {
  ASSERT_THAT(LoadTable(Options()), IsOk());
  const uint64_t last = tiny_.DeriveGeometry().total_rows() - 1;
  for (const bool checksum : {false, true}) {
    for (const uint64_t place : {uint64_t{0}, last}) {
      SCOPED_TRACE(absl::StrCat(place, checksum));
      Flip(place, checksum);
      ExpectLoadedAnew("differs in memory from its checksum");
    }
  }
}

TEST_F(TableArenaTest, DamageThatIsFoundWhileServingIsNotServedAgain) {
  ASSERT_THAT(LoadTable(Options()), IsOk());
  {
    ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
    Flip(66'000, false);
    const auto layers = tiny_.DeriveGeometry().layers();
    ASSERT_GT(layers[0].rows, 66'000u);
    EXPECT_THAT(VerifyAll(*table.rows, {1, "verifying", nullptr}),
                StatusIs(kDataLoss, "row 66000 of layer 1 differs in memory from its checksum"));
    EXPECT_THAT(table.rows->state().failure(), StatusIs(kDataLoss, "row 66000"));
  }
  ExpectLoadedAnew("was found to be damaged");
}

TEST_F(TableArenaTest, AFileThatIsCutWhileItIsServedIsDataLoss) {
  ASSERT_THAT(LoadTable(Options()), IsOk());
  {
    ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
    std::string out;
    ASSERT_THAT(Gather(table, {1, 0, 10}, out), IsOk());
    fs::resize_file(ArenaPath(), 0);
    EXPECT_THAT(Gather(table, {1, 0, 10}, out), StatusIs(kDataLoss, ArenaPath()));
    EXPECT_THAT(table.rows->state().failure(), StatusIs(kDataLoss, ArenaPath()));
    EXPECT_THAT(Gather(table, {1, 0, 10}, out), StatusIs(kDataLoss, ArenaPath()));
  }
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
  ExpectRows(table);
}

TEST_F(TableArenaTest, ShardsAndTablesLieSideBySide) {
  for (const bool again : {false, true}) {
    for (uint32_t i = 0; i < 2; ++i) {
      ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options({i, 2})));
      ExpectRows(table);
      EXPECT_EQ(table.rows->state().verified_passes, again ? 0u : 1u);
      if (again) {
        EXPECT_THAT(log_, HasSubstr(ArenaPath({1 - i, 2}) + " (0.0"));
      }
    }
  }
  // A checkpoint whose rows are others has another digest.
  ++tiny_.seed;
  fs::remove_all(dir_.path());
  fs::create_directory(dir_.path());
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options({0, 2})));
  EXPECT_NE(table.digest, sidecar_.digest);
  ExpectRows(table);
  EXPECT_THAT(log_, HasSubstr(ArenaPath({0, 2}) + " (0.0"));
}

TEST_F(TableArenaTest, ABudgetHoldsForAnArenaThatIsThere) {
  ASSERT_THAT(LoadTable(Options()), IsOk());
  LoadOptions options = Options();
  options.memory_budget = 65 << 20;
  EXPECT_THAT(LoadTable(options),
              StatusIs(absl::StatusCode::kResourceExhausted, "bytes (0.06 GiB) are its budget"));
  options.memory_budget = 80 << 20;
  EXPECT_THAT(LoadTable(options), IsOk());
}

TEST_F(TableArenaTest, IsForTheMemoryStore) {
  LoadOptions options = Options();
  options.store = StoreKind::kMapped;
  EXPECT_THAT(LoadTable(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                           "an arena directory is for the memory store alone"));
}

// Deltas stay beside an arena: its rows are those of the digest that it is known by.
TEST_F(TableArenaTest, RowsAreNotReplaced) {
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options()));
  const RowRange& first = table.rows->ranges().front();
  EXPECT_THAT(table.rows->Fold({}, table.digest, [] { return false; }),
              StatusIs(absl::StatusCode::kUnimplemented, "stay those of its digest"));
  EXPECT_THAT(table.rows->Verify(first), IsOk());
}

}  // namespace
}  // namespace engram

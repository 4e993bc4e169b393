#include "storage/table.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/crc32c.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// Two blocks a layer, cut by shards of three at rows that no block begins at.
class TableTest : public ::testing::Test {
 protected:
  TableTest() {
    tiny_.head_dim = 32;
    tiny_.bucket_floor = 17000;
    tiny_.WriteOneFile(dir_.path());
  }
  LoadOptions Options(Shard shard = {}) {
    LoadOptions options;
    options.checkpoint = dir_.path();
    options.shard = shard;
    options.threads = 2;
    options.log = [this](absl::string_view line) { absl::StrAppend(&log_, line, "\n"); };
    return options;
  }
  Sidecar WriteDigest() {
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    Sidecar sidecar = ComputeSidecar(checkpoint, 1, nullptr).value();
    EXPECT_THAT(WriteSidecar(sidecar_path_, sidecar), IsOk());
    return sidecar;
  }
  // Flips one bit of a value of the given row.
  void Damage(size_t layer_index, uint64_t row) {
    const Checkpoint checkpoint = Checkpoint::Open(dir_.path()).value();
    const TensorPlace& weight = checkpoint.layers()[layer_index].fields[0].pieces[0].place;
    const std::string path = dir_.File(weight.file);
    std::string bytes = ReadTestFile(path);
    char& byte = bytes[weight.file_offset + row * 32 + 5];
    byte = static_cast<char>(byte ^ 0x10);
    WriteTestFile(path, bytes);
  }
  void ExpectRows(const Table& table) {
    for (const RowRange& range : table.rows->ranges()) {
      std::vector<uint32_t> ids, sums(range.rows());
      for (uint64_t row = range.begin; row < range.end; ++row) {
        ids.push_back(static_cast<uint32_t>(row));
      }
      std::string out(range.rows() * 33, '\0');
      ASSERT_THAT(table.rows->Check(range.layer, std::span<const uint32_t>(ids)), IsOk());
      ASSERT_THAT(table.rows->Gather(range.layer, std::span<const uint32_t>(ids),
                                     reinterpret_cast<uint8_t*>(out.data()), sums.data()),
                  IsOk());
      EXPECT_TRUE(out == tiny_.Rows(range.layer).substr(range.begin * 33, out.size()));
      for (size_t i = 0; i < sums.size(); ++i) ASSERT_EQ(sums[i], Crc32c(&out[i * 33], 33));
    }
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
  const std::string sidecar_path_ = dir_.File("engram.sidecar");
  std::string log_;
};

TEST_F(TableTest, ShardsTogetherHoldEveryRow) {
  const Sidecar sidecar = WriteDigest();
  std::vector<uint64_t> next(2, 0);
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options({i, 3})));
    EXPECT_EQ(table.digest, sidecar.digest);
    EXPECT_EQ(table.shard, (Shard{i, 3}));
    ASSERT_EQ(table.rows->ranges().size(), 2u);
    for (size_t layer = 0; layer < 2; ++layer) {
      EXPECT_EQ(table.rows->ranges()[layer].begin, next[layer]);
      if (i < 2) {
        EXPECT_NE(table.rows->ranges()[layer].end % kBlockRows, 0u);
      }
      next[layer] = table.rows->ranges()[layer].end;
    }
    ExpectRows(table);
  }
  for (size_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(next[layer], tiny_.DeriveGeometry().layers()[layer].rows);
  }
  EXPECT_THAT(log_, testing::HasSubstr("loading: "));
  EXPECT_THAT(log_, testing::Not(testing::HasSubstr("no sidecar")));
}

TEST_F(TableTest, WithoutASidecarTheDigestIsTheSameAndItSaysSo) {
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(Options({1, 2})));
  ExpectRows(table);
  EXPECT_THAT(log_, testing::HasSubstr("no sidecar at " + sidecar_path_));
  EXPECT_EQ(table.digest, WriteDigest().digest);
  EXPECT_EQ(table.model, "tiny");
}

TEST_F(TableTest, ASidecarThatIsNamedMustBeThere) {
  LoadOptions options = Options();
  options.sidecar = dir_.File("elsewhere");
  EXPECT_THAT(LoadTable(options), StatusIs(absl::StatusCode::kNotFound, dir_.File("elsewhere")));
  WriteDigest();
  std::filesystem::rename(sidecar_path_, options.sidecar);
  EXPECT_THAT(LoadTable(options), IsOk());
}

TEST_F(TableTest, AMappedShardIsNotReadWhereTheTimesAreTheSidecars) {
  WriteDigest();
  LoadOptions options = Options({1, 3});
  options.store = StoreKind::kMapped;
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(options));
  EXPECT_EQ(log_, "");
  EXPECT_EQ(table.rows->state().verified_passes, 0u);
  EXPECT_EQ(table.rows->ranges(), ShardRanges(table.geometry, {1, 3}));
  ExpectRows(table);
}

TEST_F(TableTest, AMappedShardOfOtherTimesIsVerifiedFirst) {
  WriteDigest();
  tiny_.WriteOneFile(dir_.path());
  LoadOptions options = Options();
  options.store = StoreKind::kMapped;
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(options));
  EXPECT_EQ(table.rows->state().verified_passes, 1u);
  EXPECT_NE(log_.find("have other times than the sidecar says"), std::string::npos) << log_;
  Damage(1, 66000);
  EXPECT_THAT(LoadTable(options), StatusIs(kDataLoss, "layer 3 rows [65536, "));
}

TEST_F(TableTest, AMappedShardWithoutASidecarIsReadForItsDigest) {
  LoadOptions options = Options();
  options.store = StoreKind::kMapped;
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(options));
  EXPECT_EQ(table.rows->state().verified_passes, 1u);
  ExpectRows(table);
}

TEST_F(TableTest, StoresByName) {
  EXPECT_THAT(ParseStoreKind("memory"), IsOkAndHolds(StoreKind::kMemory));
  EXPECT_THAT(ParseStoreKind("mapped"), IsOkAndHolds(StoreKind::kMapped));
  EXPECT_THAT(ParseStoreKind("disk"),
              StatusIs(absl::StatusCode::kInvalidArgument, "store `disk` is not known here"));
}

TEST_F(TableTest, AShardOfAMap) {
  WriteDigest();
  LoadOptions options = Options({1, 2});
  ASSERT_OK_AND_ASSIGN(
      options.shard_map,
      ShardMap::Parse(R"({"shards": [{"name": "a", "share": 9}, {"name": "b", "share": 1}]})",
                      "map"));
  ASSERT_OK_AND_ASSIGN(const Table table, LoadTable(options));
  const uint64_t rows = table.geometry.layers()[0].rows;
  EXPECT_EQ(table.rows->ranges()[0], (RowRange{1, rows * 9 / 10, rows}));
  ExpectRows(table);
}

TEST_F(TableTest, AMemoryBudgetIsKept) {
  WriteDigest();
  LoadOptions options = Options();
  options.memory_budget = 1 << 20;
  EXPECT_THAT(LoadTable(options), StatusIs(absl::StatusCode::kResourceExhausted,
                                           "1048576 bytes (0.00 GiB) are its budget"));
  options.memory_budget = uint64_t{1} << 30;
  EXPECT_THAT(LoadTable(options), IsOk());
}

TEST_F(TableTest, AFlippedBitIsFoundInItsBlock) {
  WriteDigest();
  Damage(1, kBlockRows + 17);
  const absl::Status status = LoadTable(Options()).status();
  EXPECT_THAT(status, StatusIs(kDataLoss, "layer 3 rows [65536, "));
  EXPECT_THAT(status, StatusIs(kDataLoss, "(block 1)"));
  EXPECT_THAT(status, StatusIs(kDataLoss, "`engramctl digest " + dir_.path() + "`"));
}

// The block's sum covers rows that the shard does not keep, so damage there is found as well; a
// shard none of whose blocks is touched loads.
TEST_F(TableTest, DamageBesideTheShardsRowsIsFoundWithinItsBlocks) {
  WriteDigest();
  Damage(0, 60000);  // shard 0/3 keeps about the first 22,700 rows of block 0
  EXPECT_THAT(LoadTable(Options({0, 3})), StatusIs(kDataLoss, "layer 1 rows [0, 65536) (block 0)"));
  EXPECT_THAT(LoadTable(Options({39, 40})), IsOk());
}

TEST_F(TableTest, AStaleSidecarIsRefused) {
  WriteDigest();
  tiny_.seed = 8;
  tiny_.WriteOneFile(dir_.path());
  EXPECT_THAT(LoadTable(Options()), StatusIs(kDataLoss, "differ from the sums in"));
  tiny_.bucket_floor = 17100;
  tiny_.WriteOneFile(dir_.path());
  EXPECT_THAT(LoadTable(Options()), StatusIs(kDataLoss, "is not of this checkpoint"));
}

TEST_F(TableTest, ASidecarWhoseDigestIsNotOfItsSumsIsRefused) {
  Sidecar sidecar = WriteDigest();
  sidecar.digest[0] ^= 1;
  ASSERT_THAT(WriteSidecar(sidecar_path_, sidecar), IsOk());
  EXPECT_THAT(LoadTable(Options()), StatusIs(kDataLoss, "its digest is of another geometry"));
}

TEST_F(TableTest, AnotherDigestThanExpectedIsRefusedBeforeLoading) {
  const Sidecar sidecar = WriteDigest();
  Damage(0, 3);  // would be DataLoss, were a row read
  LoadOptions options = Options();
  options.expect_digest = Sha256Of("another");
  const absl::Status status = LoadTable(options).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, ToHex(sidecar.digest)));
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kFailedPrecondition, ToHex(*options.expect_digest)));
  EXPECT_EQ(log_, "");
  Damage(0, 3);
  options.expect_digest = sidecar.digest;
  EXPECT_THAT(LoadTable(options), IsOk());
}

// A table of terabytes that is all hole: refused by its size before anything of it is read.
TEST_F(TableTest, AShardLargerThanMemoryIsRefusedBeforeLoading) {
  TempDir dir;
  TinyCheckpoint huge;
  huge.layer_ids = {1};
  huge.head_dim = 32;
  huge.bucket_floor = uint64_t{1} << 36;
  const uint64_t rows = huge.DeriveGeometry().layers()[0].rows;
  huge.WriteConfig(dir.path());
  const auto write = [&](absl::string_view half, absl::string_view dtype, uint64_t width) {
    const std::string path = dir.File(absl::StrCat(half, ".safetensors"));
    const std::string header = absl::StrCat(R"({"layers.1.engram.embed.)", half, R"(":{"dtype":")",
                                            dtype, R"(","shape":[)", rows, ",", width,
                                            R"(],"data_offsets":[0,)", rows * width, "]}}");
    const std::string bytes = SafetensorsBytes(header, "");
    WriteTestFile(path, bytes);
    std::error_code error;
    std::filesystem::resize_file(path, bytes.size() + rows * width, error);
    return !error;
  };
  if (!write("weight", "F8_E4M3", 32) || !write("scale", "F8_E8M0", 1)) {
    GTEST_SKIP() << "this file system takes no sparse file of terabytes";
  }
  LoadOptions options = Options();
  options.checkpoint = dir.path();
  const absl::Status status = LoadTable(options).status();
  const uint64_t need = rows * (33 + 4) + (64 << 20);
  EXPECT_THAT(status, StatusIs(kExhausted, absl::StrCat("this shard takes ", need, " bytes")));
  EXPECT_THAT(status, StatusIs(kExhausted, "GiB) are available"));
  EXPECT_EQ(log_, "");
}

}  // namespace
}  // namespace engram

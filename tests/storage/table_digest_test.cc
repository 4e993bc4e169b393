#include "storage/table_digest.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "proto/digest.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class TableDigestTest : public ::testing::Test {
 protected:
  absl::StatusOr<Sidecar> Compute(uint32_t threads) {
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    return ComputeSidecar(*checkpoint, threads,
                          [this](absl::string_view line) { log_.emplace_back(line); });
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
  std::vector<std::string> log_;
};

// Several blocks a layer, added up here row by row from the rows' definition.
TEST_F(TableDigestTest, SumsOfBlocks) {
  tiny_.head_dim = 32;
  tiny_.bucket_floor = 17000;
  tiny_.WriteIndexed(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, Compute(3));
  const Geometry geometry = tiny_.DeriveGeometry();
  ASSERT_EQ(sidecar.layers.size(), 2u);
  RowSum total;
  for (size_t i = 0; i < 2; ++i) {
    const LayerGeometry& layer = geometry.layers()[i];
    ASSERT_GT(layer.rows, kBlockRows);
    std::vector<RowSum> blocks(2);
    const std::string rows = tiny_.Rows(layer.layer_id);
    const auto* bytes = reinterpret_cast<const uint8_t*>(rows.data());
    for (uint64_t row = 0; row < layer.rows; ++row) {
      blocks[row / kBlockRows].AddRow(layer.layer_id, row, bytes + row * 33, 33);
    }
    EXPECT_EQ(sidecar.layers[i].layer, layer.layer_id);
    EXPECT_EQ(sidecar.layers[i].rows, layer.rows);
    EXPECT_EQ(sidecar.layers[i].blocks, blocks);
    total += blocks[0];
    total += blocks[1];
  }
  EXPECT_EQ(sidecar.digest, TableDigest(geometry, PackedFp8Layout(32), std::nullopt, total));
  EXPECT_EQ(sidecar.files.size(), 4u);
  EXPECT_GT(sidecar.files[0].size, 0u);
  EXPECT_GT(sidecar.files[0].modified_ns, 0);
  ASSERT_FALSE(log_.empty());
  EXPECT_THAT(log_.back(), testing::MatchesRegex("digest: .* GB in .* s"));
}

TEST_F(TableDigestTest, DoesNotDependOnThreadsOrFiles) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Sidecar one, Compute(1));
  ASSERT_OK_AND_ASSIGN(const Sidecar four, Compute(4));
  EXPECT_EQ(one.digest, four.digest);
  TempDir other;
  tiny_.WriteIndexed(other.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(other.path()));
  ASSERT_OK_AND_ASSIGN(const Sidecar indexed, ComputeSidecar(checkpoint, 0, nullptr));
  EXPECT_EQ(one.digest, indexed.digest);
}

TEST_F(TableDigestTest, AnotherByteIsAnotherDigest) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Sidecar before, Compute(1));
  std::string bytes = ReadTestFile(dir_.File("model.safetensors"));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  WriteTestFile(dir_.File("model.safetensors"), bytes);
  ASSERT_OK_AND_ASSIGN(const Sidecar after, Compute(1));
  EXPECT_NE(before.digest, after.digest);
}

// Islands of many sizes, one of them larger than a chunk, in a table that is all zeros otherwise:
// as holes and as zeros that the file holds.
TEST_F(TableDigestTest, HolesAndZerosAreTheSame) {
  tiny_.layer_ids = {1};
  tiny_.bucket_floor = 40000;
  tiny_.WriteOneFile(dir_.path());
  const std::string path = dir_.File("model.safetensors");
  const std::string bytes = ReadTestFile(path);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
  const TensorPlace& weight = checkpoint.layers()[0].fields[0].pieces[0].place;
  std::vector<std::pair<uint64_t, uint64_t>> islands = {{0, weight.file_offset + 1},
                                                        {bytes.size() - 1, 1}};
  uint64_t at = weight.file_offset;
  for (const uint64_t rows : {1, 15, 16, 17, 100, 1000, 9000, 20000}) {
    at += 700000;
    islands.emplace_back(at, rows * 64);
    at += rows * 64;
  }
  ASSERT_LT(at, bytes.size());
  std::string zeros(bytes.size(), '\0');
  for (const auto& [offset, size] : islands) zeros.replace(offset, size, bytes, offset, size);
  WriteTestFile(path, zeros);
  ASSERT_OK_AND_ASSIGN(const Sidecar dense, Compute(1));
  std::filesystem::resize_file(path, 0);
  std::filesystem::resize_file(path, bytes.size());
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  for (const auto& [offset, size] : islands) {
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(&bytes[offset], static_cast<std::streamsize>(size));
  }
  file.close();
  ASSERT_EQ(ReadTestFile(path), zeros);
  ASSERT_OK_AND_ASSIGN(const Sidecar sparse, Compute(1));
  EXPECT_EQ(sparse.digest, dense.digest);
  EXPECT_EQ(sparse.layers[0].blocks, dense.layers[0].blocks);
}

TEST(ChunkStepsTest, AreSmallBehindAHoleAndGrow) {
  ChunkSteps steps;
  EXPECT_EQ(steps.Next(false, 100000), kChunkRows);
  EXPECT_EQ(steps.Next(true, 100000), 16u);
  EXPECT_EQ(steps.Next(false, 100000), 32u);
  EXPECT_EQ(steps.Next(false, 20), 20u);
  for (int i = 0; i < 10; ++i) steps.Next(false, 100000);
  EXPECT_EQ(steps.Next(false, 100000), kChunkRows);
  EXPECT_EQ(steps.Next(true, 0), 0u);
}

}  // namespace
}  // namespace engram

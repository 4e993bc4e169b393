#include "storage/delta.h"

#include <cstring>
#include <string>
#include <vector>

#include "proto/crc32c.h"
#include "storage/delta_merge.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "tests/support/changed_checkpoint.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// What tests/storage/golden/delta-v1.bin holds: rows of 8 bytes, two of layer 1, one of layer 14.
DeltaHeader GoldenHeader() {
  DeltaHeader header;
  for (size_t i = 0; i < header.base.size(); ++i) {
    header.base[i] = static_cast<uint8_t>(i);
    header.target[i] = static_cast<uint8_t>(255 - i);
  }
  header.base_sum = RowSum(1, 2);
  header.target_sum = RowSum(3, uint64_t{1} << 63);
  header.row_bytes = 8;
  header.layers = {{1, 100, 0}, {3, 5, 0}, {14, uint64_t{1} << 33, 0}};
  return header;
}

struct GoldenRow {
  size_t layer_index;
  uint64_t row;
  RowSum before;
  std::string bytes;
};
const GoldenRow kGoldenRows[] = {
    {0, 7, RowSum(11, 12), "changed!"},
    {0, 99, RowSum(), "new rows"},
    {2, uint64_t{1} << 32, RowSum(~uint64_t{0}, 5), std::string(8, '\0')}};

DeltaRow ToDeltaRow(const GoldenRow& row) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row.bytes.data());
  return {row.layer_index, row.row, row.before, Crc32c(bytes, 8), bytes};
}

absl::Status ReadAll(const std::string& path, size_t* rows = nullptr) {
  auto reader = DeltaReader::Open(path);
  if (!reader.ok()) return reader.status();
  while (true) {
    const auto row = (*reader)->Next();
    if (!row.ok()) return row.status();
    if (!row->has_value()) return absl::OkStatus();
    if (rows != nullptr) ++*rows;
  }
}

class DeltaFileTest : public ::testing::Test {
 protected:
  std::string Bytes() {
    auto writer = DeltaWriter::Create(path_, GoldenHeader());
    EXPECT_THAT(writer, IsOk());
    for (const GoldenRow& row : kGoldenRows) EXPECT_THAT((*writer)->Add(ToDeltaRow(row)), IsOk());
    EXPECT_THAT((*writer)->Finish(), IsOk());
    return ReadTestFile(path_);
  }
  absl::Status ReadBack(const std::string& bytes) {
    WriteTestFile(path_, bytes);
    return ReadAll(path_);
  }
  static void ExpectGolden(const std::string& path) {
    ASSERT_OK_AND_ASSIGN(const auto reader, DeltaReader::Open(path));
    const DeltaHeader& header = reader->header();
    EXPECT_EQ(header.base, GoldenHeader().base);
    EXPECT_EQ(header.target, GoldenHeader().target);
    EXPECT_EQ(header.base_sum, GoldenHeader().base_sum);
    EXPECT_EQ(header.target_sum, GoldenHeader().target_sum);
    EXPECT_EQ(header.row_bytes, 8u);
    const std::vector<DeltaLayer> layers = {{1, 100, 2}, {3, 5, 0}, {14, uint64_t{1} << 33, 1}};
    EXPECT_EQ(header.layers, layers);
    for (const GoldenRow& golden : kGoldenRows) {
      ASSERT_OK_AND_ASSIGN(const auto row, reader->Next());
      ASSERT_TRUE(row.has_value());
      EXPECT_EQ(row->layer_index, golden.layer_index);
      EXPECT_EQ(row->row, golden.row);
      EXPECT_EQ(row->before, golden.before);
      EXPECT_EQ(std::memcmp(row->bytes, golden.bytes.data(), 8), 0);
    }
    ASSERT_OK_AND_ASSIGN(const auto end, reader->Next());
    EXPECT_FALSE(end.has_value());
  }

  static constexpr size_t kRecord = 40;
  TempDir dir_;
  const std::string path_ = dir_.File("t.delta");
};

// The format stays readable: this file was written by the format's first version.
TEST_F(DeltaFileTest, ReadsTheGoldenFile) { ExpectGolden("tests/storage/golden/delta-v1.bin"); }

TEST_F(DeltaFileTest, RoundTrip) {
  EXPECT_EQ(Bytes(), ReadTestFile("tests/storage/golden/delta-v1.bin"));
  ExpectGolden(path_);
}

TEST_F(DeltaFileTest, OtherFilesAndVersionsAreInvalidArgument) {
  std::string bytes = Bytes();
  EXPECT_THAT(ReadBack(""), StatusIs(kInvalid, path_ + " is not a delta"));
  bytes[3] = '?';
  EXPECT_THAT(ReadBack(bytes), StatusIs(kInvalid, path_ + " is not a delta"));
  bytes = Bytes();
  bytes[8] = 2;
  EXPECT_THAT(ReadBack(bytes), StatusIs(kInvalid, "has format version 2"));
  EXPECT_THAT(ReadAll(dir_.File("none")), StatusIs(absl::StatusCode::kNotFound, "none"));
}

TEST_F(DeltaFileTest, EveryCutIsNoticed) {
  const std::string bytes = Bytes();
  for (size_t size = 1; size < bytes.size(); ++size) {
    ASSERT_THAT(ReadBack(bytes.substr(0, size)), StatusIs(kDataLoss, "cut off")) << size;
  }
  EXPECT_THAT(ReadBack(bytes + "x"), StatusIs(kDataLoss, "more than its header says"));
}

TEST_F(DeltaFileTest, EveryFlippedBitIsNoticed) {
  const std::string bytes = Bytes();
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    ASSERT_FALSE(ReadBack(damaged).ok()) << at;
  }
}

TEST_F(DeltaFileTest, ReorderedRowsAreNoticed) {
  std::string bytes = Bytes();
  const size_t first = bytes.size() - 3 * kRecord;
  const std::string swapped = bytes.substr(0, first) + bytes.substr(first + kRecord, kRecord) +
                              bytes.substr(first, kRecord) + bytes.substr(first + 2 * kRecord);
  EXPECT_THAT(ReadBack(swapped), StatusIs(kDataLoss, "row 7 of layer 1 comes after row 99"));
  // Twice the same row.
  const std::string twice = bytes.substr(0, first + kRecord) + bytes.substr(first, kRecord) +
                            bytes.substr(first + 2 * kRecord);
  EXPECT_THAT(ReadBack(twice), StatusIs(kDataLoss, "row 7 of layer 1 comes after row 7"));
}

TEST_F(DeltaFileTest, RowsOfAnotherDeltaDoNotMakeTheChange) {
  std::string bytes = Bytes();
  // Another row id with a sound record: order and checksums hold, the sum does not.
  const size_t first = bytes.size() - 3 * kRecord;
  bytes[first] = 8;
  const uint32_t checksum = Crc32c(bytes.data() + first, 28);
  std::memcpy(bytes.data() + first + 28, &checksum, sizeof(checksum));
  EXPECT_THAT(ReadBack(bytes), StatusIs(kDataLoss, "do not make the change"));
}

TEST_F(DeltaFileTest, TheWriterTakesRowsInOrderAlone) {
  ASSERT_OK_AND_ASSIGN(const auto writer, DeltaWriter::Create(path_, GoldenHeader()));
  ASSERT_THAT(writer->Add(ToDeltaRow(kGoldenRows[1])), IsOk());
  EXPECT_THAT(writer->Add(ToDeltaRow(kGoldenRows[0])), StatusIs(kInvalid, "row 7"));
  EXPECT_THAT(writer->Add(ToDeltaRow({0, 100, {}, kGoldenRows[0].bytes})),
              StatusIs(kInvalid, "beyond layer 1"));
}

// Two blocks a layer.
class DeltaTest : public ::testing::Test {
 protected:
  DeltaTest() {
    tiny_.head_dim = 32;
    tiny_.bucket_floor = 17000;
    std::filesystem::create_directory(from_);
    tiny_.WriteOneFile(from_);
  }
  absl::StatusOr<DeltaHeader> Write() { return WriteDelta({from_, to_, out_, 1, nullptr}); }
  static Sidecar WriteDigest(const std::string& directory) {
    const Checkpoint checkpoint = Checkpoint::Open(directory).value();
    Sidecar sidecar = ComputeSidecar(checkpoint, 1, nullptr).value();
    EXPECT_THAT(WriteSidecar(checkpoint.sidecar_path(), sidecar), IsOk());
    return sidecar;
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
  const std::string from_ = dir_.File("from");
  const std::string to_ = dir_.File("to");
  const std::string out_ = dir_.File("t.delta");
};

TEST_F(DeltaTest, HoldsTheRowsThatDiffer) {
  for (const bool sidecars : {false, true}) {
    std::filesystem::remove_all(to_);
    WriteChanged(from_, to_, {{0, 3}, {0, 65536}, {1, 0}});
    if (sidecars) WriteDigest(from_);
    const Sidecar target = WriteDigest(to_);
    ASSERT_OK_AND_ASSIGN(const DeltaHeader header, Write());
    EXPECT_TRUE(header.whole());
    EXPECT_EQ(header.target, target.digest);
    EXPECT_EQ(header.changed(), 3u);
    ASSERT_OK_AND_ASSIGN(const auto reader, DeltaReader::Open(out_));
    EXPECT_EQ(reader->header(), header);
    for (const auto& [layer, row] :
         std::vector<std::pair<size_t, uint64_t>>{{0, 3}, {0, 65536}, {1, 0}}) {
      ASSERT_OK_AND_ASSIGN(const auto read, reader->Next());
      ASSERT_TRUE(read.has_value());
      EXPECT_EQ(read->layer_index, layer);
      EXPECT_EQ(read->row, row);
      std::string expected = tiny_.Row(tiny_.layer_ids[layer], row);
      expected[5] = static_cast<char>(expected[5] ^ 1);
      EXPECT_EQ(std::memcmp(read->bytes, expected.data(), expected.size()), 0);
    }
    EXPECT_THAT(ReadAll(out_), IsOk());
  }
}

TEST_F(DeltaTest, EqualTablesGiveAnEmptyDelta) {
  WriteChanged(from_, to_, {});
  ASSERT_OK_AND_ASSIGN(const DeltaHeader header, Write());
  EXPECT_EQ(header.base, header.target);
  EXPECT_EQ(header.changed(), 0u);
  EXPECT_THAT(ReadAll(out_), IsOk());
}

TEST_F(DeltaTest, OtherGeometryOrLayoutIsRefused) {
  TinyCheckpoint other = tiny_;
  other.bucket_floor = 18000;
  std::filesystem::create_directory(to_);
  other.WriteOneFile(to_);
  EXPECT_THAT(Write(), StatusIs(kInvalid, "differ in geometry: a delta changes rows alone"));
  std::filesystem::remove_all(to_);
  std::filesystem::create_directory(to_);
  other = tiny_;
  other.head_dim = 64;
  other.WriteOneFile(to_);
  EXPECT_THAT(Write(), StatusIs(kInvalid, "differ in row layout"));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(DeltaTest, AnotherTokenMapIsRefused) {
  Sidecar sidecar = WriteDigest(from_);
  WriteChanged(from_, to_, {{0, 3}});
  sidecar = WriteDigest(to_);
  std::vector<uint32_t> ids(200);
  for (uint32_t i = 0; i < 200; ++i) ids[i] = i % tiny_.compressed_vocab;
  sidecar.token_map = TokenMap::Create(ids).value();
  const Checkpoint checkpoint = Checkpoint::Open(to_).value();
  sidecar.digest = TableDigest(checkpoint.geometry(), checkpoint.layout(),
                               sidecar.token_map->sha256(), sidecar.TotalSum());
  ASSERT_THAT(WriteSidecar(to_ + "/engram.sidecar", sidecar), IsOk());
  EXPECT_THAT(Write(), StatusIs(kInvalid, "differ in token map"));
}

TEST_F(DeltaTest, RowsThatAreNotTheSidecarsAreDataLoss) {
  WriteDigest(from_);
  WriteChanged(from_, to_, {{0, 3}});
  WriteDigest(to_);
  const std::string again = dir_.File("again");
  WriteChanged(to_, again, {{0, 9}});
  std::filesystem::copy(to_ + "/engram.sidecar", again);
  EXPECT_THAT(WriteDelta({from_, again, out_, 1, nullptr}),
              StatusIs(kDataLoss, "differ from the sums in " + again));
}

TEST_F(DeltaTest, TwoDeltasMergeIntoTheOneBetweenTheirEnds) {
  const std::string last = dir_.File("last");
  WriteChanged(from_, to_, {{0, 3}, {0, 9}, {1, 7}});
  WriteChanged(to_, last, {{0, 2}, {0, 9}, {1, 7}, {1, 8}});  // 9 and 7 are again what they were
  const std::string first = dir_.File("first"), second = dir_.File("second");
  ASSERT_THAT(WriteDelta({from_, to_, first, 1, nullptr}), IsOk());
  ASSERT_THAT(WriteDelta({to_, last, second, 1, nullptr}), IsOk());
  ASSERT_THAT(WriteDelta({from_, last, out_, 1, nullptr}), IsOk());
  const std::string merged = dir_.File("merged");
  ASSERT_THAT(MergeDeltas(first, second, merged), IsOk());
  EXPECT_EQ(ReadTestFile(merged), ReadTestFile(out_));
  EXPECT_THAT(MergeDeltas(second, first, merged), StatusIs(kInvalid, "is not on the target of"));
}

}  // namespace
}  // namespace engram

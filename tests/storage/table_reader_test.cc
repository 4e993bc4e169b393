#include "storage/table_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class TableReaderTest : public ::testing::Test {
 protected:
  void Open() {
    auto checkpoint = Checkpoint::Open(dir_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    auto reader = TableReader::Open(*checkpoint_);
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = *std::move(reader);
  }
  std::string Read(size_t layer_index, uint64_t begin, uint64_t count) {
    std::string out(count * tiny_.row_bytes(), '\0');
    const absl::Status status =
        reader_->Read(layer_index, begin, count, reinterpret_cast<uint8_t*>(out.data()));
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }
  absl::Status ReadStatus(size_t layer_index, uint64_t begin, uint64_t count) {
    std::string out(count * tiny_.row_bytes(), '\0');
    return reader_->Read(layer_index, begin, count, reinterpret_cast<uint8_t*>(out.data()));
  }
  uint64_t Rows(size_t layer_index) const {
    return checkpoint_->geometry().layers()[layer_index].rows;
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<TableReader> reader_;
};

TEST_F(TableReaderTest, PacksValuesThenScales) {
  for (const bool indexed : {false, true}) {
    SCOPED_TRACE(indexed);
    std::filesystem::remove(dir_.File("model.safetensors"));
    indexed ? tiny_.WriteIndexed(dir_.path()) : tiny_.WriteOneFile(dir_.path());
    ASSERT_NO_FATAL_FAILURE(Open());
    EXPECT_EQ(Read(0, 0, Rows(0)), tiny_.Rows(1));
    EXPECT_EQ(Read(1, 0, Rows(1)), tiny_.Rows(3));
  }
}

TEST_F(TableReaderTest, ReadsAnyRange) {
  tiny_.head_dim = 256;
  tiny_.WriteOneFile(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  const std::string rows = tiny_.Rows(3);
  const uint64_t row_bytes = tiny_.row_bytes();
  ASSERT_EQ(row_bytes, 264u);
  for (uint64_t begin = 0; begin <= Rows(1); begin += 7) {
    const uint64_t count = std::min<uint64_t>(begin % 13, Rows(1) - begin);
    EXPECT_EQ(Read(1, begin, count), rows.substr(begin * row_bytes, count * row_bytes));
  }
  EXPECT_EQ(Read(1, Rows(1) - 1, 1), tiny_.Row(3, Rows(1) - 1));
}

// More rows than the reader packs at a time: the seams between pieces hold.
TEST_F(TableReaderTest, ReadsManyPieces) {
  tiny_.head_dim = 256;
  tiny_.bucket_floor = 1200;
  tiny_.WriteOneFile(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  ASSERT_GT(Rows(0) * 256, 3u << 18);
  const std::string expected = tiny_.Rows(1);
  EXPECT_EQ(Read(0, 0, Rows(0)), expected);
  EXPECT_EQ(Read(0, 1, Rows(0) - 2), expected.substr(264, expected.size() - 2 * 264));
}

TEST_F(TableReaderTest, ThreadsReadAtOnce) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  const std::string expected[] = {tiny_.Rows(1), tiny_.Rows(3)};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int turn = 0; turn < 20; ++turn) EXPECT_EQ(Read(i % 2, 0, Rows(i % 2)), expected[i % 2]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(TableReaderTest, RefusesRangesBeyondTheLayer) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  constexpr auto kInternal = absl::StatusCode::kInternal;
  EXPECT_THAT(ReadStatus(0, 0, Rows(0) + 1), StatusIs(kInternal, "asked of a table"));
  EXPECT_THAT(ReadStatus(0, ~uint64_t{0}, 2), StatusIs(kInternal, "asked of a table"));
}

TEST_F(TableReaderTest, AFileThatShrankIsDataLoss) {
  tiny_.WriteIndexed(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  for (const LayerTensors& layer : checkpoint_->layers()) {
    for (const RowField& field : layer.fields) {
      const TensorPlace& place = field.pieces[0].place;
      const std::string path = dir_.File(place.file);
      const std::string whole = ReadTestFile(path);
      std::filesystem::resize_file(path, whole.size() - 1);
      const size_t index = layer.layer == 1 ? 0 : 1;
      const absl::Status status = ReadStatus(index, 0, Rows(index));
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, path));
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                   "tensor `" + place.name + "`: the file ends within it"));
      WriteTestFile(path, whole);
    }
  }
}

TEST_F(TableReaderTest, AFileThatVanishedIsNotFound) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
  std::filesystem::remove(dir_.File("model.safetensors"));
  EXPECT_THAT(TableReader::Open(checkpoint),
              StatusIs(absl::StatusCode::kNotFound, dir_.File("model.safetensors")));
}

TEST_F(TableReaderTest, AFileThatWasReplacedSinceItsHeaderWasReadIsDataLoss) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
  const std::string path = dir_.File("model.safetensors");
  WriteTestFile(path + ".new", ReadTestFile(path));
  std::filesystem::rename(path + ".new", path);
  EXPECT_THAT(TableReader::Open(checkpoint),
              StatusIs(absl::StatusCode::kDataLoss, path + ": was replaced by another file"));
  // A pipe that nobody writes to must not be waited for.
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(TableReader::Open(checkpoint),
              StatusIs(absl::StatusCode::kInvalidArgument, path + ": not a regular file"));
}

TEST_F(TableReaderTest, AFileThatChangesWhileItIsReadIsFound) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_NO_FATAL_FAILURE(Open());
  EXPECT_THAT(reader_->CheckFiles(), IsOk());
  const std::string path = dir_.File("model.safetensors");
  const std::string bytes = ReadTestFile(path);
  WriteTestFile(path, bytes + "x");
  EXPECT_THAT(reader_->CheckFiles(),
              StatusIs(absl::StatusCode::kDataLoss,
                       absl::StrCat(path, ": has ", bytes.size() + 1, " bytes; it had ")));
  WriteTestFile(path, bytes);
  EXPECT_THAT(reader_->CheckFiles(),
              StatusIs(absl::StatusCode::kDataLoss, path + ": has changed since it was opened"));
}

// Ten rows in the middle of a table that is all hole otherwise.
TEST_F(TableReaderTest, HolesAreSkippedUpToTheFirstRowWithData) {
  tiny_.layer_ids = {1};
  tiny_.bucket_floor = 50000;
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
  const std::string path = dir_.File("model.safetensors");
  const std::string bytes = ReadTestFile(path);
  std::filesystem::resize_file(path, 0);
  std::filesystem::resize_file(path, bytes.size());
  const TensorPlace& weight = checkpoint.layers()[0].fields[0].pieces[0].place;
  const TensorPlace& scale = checkpoint.layers()[0].fields[1].pieces[0].place;
  const auto write = [&](uint64_t offset, const std::string& data) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << data;
  };
  write(0, bytes.substr(0, weight.file_offset));
  write(weight.file_offset + 100000 * 64, std::string(10 * 64, 'x'));
  write(scale.file_offset + 150000 * 2, "y");
  ASSERT_NO_FATAL_FAILURE(Open());
  // A file system keeps data in blocks of up to 64 KiB, each of them data as a whole.
  constexpr uint64_t kBlock = 65536;
  const uint64_t first = reader_->SkipHoles(0, 50000, Rows(0));
  if (first == 50000) GTEST_SKIP() << "this file system keeps no holes";
  EXPECT_GT(first, 100000 - kBlock / 64);
  EXPECT_LE(first, 100000u);
  EXPECT_EQ(reader_->SkipHoles(0, 100005, Rows(0)), 100005u);
  const uint64_t second = reader_->SkipHoles(0, 110000, Rows(0));
  EXPECT_GT(second, 150000 - kBlock / 2);
  EXPECT_LE(second, 150000u);
  EXPECT_EQ(reader_->SkipHoles(0, 199000, Rows(0)), Rows(0));
  EXPECT_EQ(reader_->SkipHoles(0, 50000, 60000), 60000u);
}

}  // namespace
}  // namespace engram

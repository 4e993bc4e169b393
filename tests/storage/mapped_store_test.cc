#include "storage/mapped_store.h"

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/crc32c.h"
#include "storage/table_digest.h"
#include "storage/verifier.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

class MappedStoreTest : public ::testing::Test {
 protected:
  // Opens the directory's checkpoint; `ranges` empty: all rows.
  absl::StatusOr<std::unique_ptr<MappedStore>> Open(std::vector<RowRange> ranges = {}) {
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    auto shared = std::make_shared<const Checkpoint>(*std::move(checkpoint));
    auto sidecar = ComputeSidecar(*shared, 1, nullptr);
    if (!sidecar.ok()) return sidecar.status();
    if (ranges.empty()) ranges = ShardRanges(shared->geometry(), {});
    return MappedStore::Open(shared, std::move(ranges), sidecar->layers);
  }
  absl::StatusOr<std::string> Gather(const MappedStore& store, uint32_t layer,
                                     const std::vector<uint32_t>& ids) {
    std::string out(ids.size() * store.layout().row_bytes(), '\xEE');
    const absl::Status status = store.Gather(layer, std::span<const uint32_t>(ids),
                                             reinterpret_cast<uint8_t*>(out.data()), nullptr);
    if (!status.ok()) return status;
    return out;
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
};

TEST_F(MappedStoreTest, GathersRowsInRequestOrder) {
  tiny_.WriteIndexed(dir_.path());
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  const uint32_t rows = static_cast<uint32_t>(store->ranges()[1].end);
  std::vector<uint32_t> ids = {rows - 1, 0, kNoRow32, 7, 7, kNoRow32};
  for (uint32_t row = 0; row < rows; ++row) ids.push_back((row * 37) % rows);
  ASSERT_THAT(store->Check(3, std::span<const uint32_t>(ids)), IsOk());
  std::string expected;
  for (const uint32_t id : ids) {
    expected += id == kNoRow32 ? std::string(tiny_.row_bytes(), '\0') : tiny_.Row(3, id);
  }
  EXPECT_THAT(Gather(*store, 3, ids), IsOkAndHolds(expected));

  std::vector<uint64_t> wide;
  for (const uint32_t id : ids) wide.push_back(id == kNoRow32 ? kNoRow64 : id);
  std::string out(expected.size(), '\xEE');
  std::vector<uint32_t> checksums(ids.size());
  ASSERT_THAT(store->Gather(3, std::span<const uint64_t>(wide),
                            reinterpret_cast<uint8_t*>(out.data()), checksums.data()),
              IsOk());
  EXPECT_EQ(out, expected);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(checksums[i], Crc32c(&expected[i * tiny_.row_bytes()], tiny_.row_bytes()));
  }
}

TEST_F(MappedStoreTest, ChecksIdsAgainstItsRanges) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const auto store, Open({{1, 10, 20}, {1, 30, 40}}));
  EXPECT_EQ(store->bytes(), 20u * 66);
  const auto check = [&](uint32_t layer, uint32_t row) {
    return store->Check(layer, std::span<const uint32_t>(&row, 1));
  };
  EXPECT_THAT(check(1, 39), IsOk());
  EXPECT_THAT(check(1, 25), StatusIs(absl::StatusCode::kFailedPrecondition, "row id 25"));
  EXPECT_THAT(check(3, 0), StatusIs(absl::StatusCode::kFailedPrecondition, "not held"));
  EXPECT_THAT(check(2, 0), StatusIs(absl::StatusCode::kNotFound, "layer 2"));
  EXPECT_THAT(Gather(*store, 1, {30, 10}), IsOkAndHolds(tiny_.Row(1, 30) + tiny_.Row(1, 10)));
}

// The tiny table with its scales as f32; `bad`: the last of layer 3's row 5 is 1.5.
std::vector<TestTensor> WithF32Scales(const TinyCheckpoint& tiny, bool bad) {
  std::vector<TestTensor> tensors = tiny.Tensors();
  for (size_t i : {1, 3}) {
    std::string floats;
    for (const char scale : tensors[i].data) {
      uint32_t bits = uint32_t{static_cast<uint8_t>(scale)} << 23;
      if (bad && i == 3 && floats.size() == (5 * 2 + 1) * 4) bits = 0x3FC00000;
      floats.append(reinterpret_cast<const char*>(&bits), 4);
    }
    tensors[i].dtype = "F32";
    tensors[i].data = floats;
  }
  return tensors;
}

TEST_F(MappedStoreTest, ConvertsF32Scales) {
  tiny_.WriteConfig(dir_.path());
  WriteTestFile(dir_.File("model.safetensors"), SafetensorsBytes(WithF32Scales(tiny_, false)));
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  EXPECT_THAT(Gather(*store, 3, {5, 300}), IsOkAndHolds(tiny_.Row(3, 5) + tiny_.Row(3, 300)));
}

// Met by a gather before the verification: the sums are those of the sound table.
TEST_F(MappedStoreTest, AScaleThatUe8m0DoesNotHoldIsDataLossForGood) {
  tiny_.WriteConfig(dir_.path());
  const std::string path = dir_.File("model.safetensors");
  WriteTestFile(path, SafetensorsBytes(WithF32Scales(tiny_, false)));
  ASSERT_OK_AND_ASSIGN(const Checkpoint sound, Checkpoint::Open(dir_.path()));
  ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, ComputeSidecar(sound, 1, nullptr));
  WriteTestFile(path, SafetensorsBytes(WithF32Scales(tiny_, true)));
  ASSERT_OK_AND_ASSIGN(Checkpoint opened, Checkpoint::Open(dir_.path()));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  ASSERT_OK_AND_ASSIGN(
      const auto store,
      MappedStore::Open(checkpoint, ShardRanges(checkpoint->geometry(), {}), sidecar.layers));
  EXPECT_THAT(Gather(*store, 3, {4, 6}), IsOkAndHolds(tiny_.Row(3, 4) + tiny_.Row(3, 6)));
  const std::string what = path +
                           ": tensor `layers.3.engram.embed.scale`: scale 1 of row 5 is not a "
                           "power of two from 2^-127 to 2^127";
  EXPECT_THAT(Gather(*store, 3, {4, 5}), StatusIs(kDataLoss, what));
  EXPECT_THAT(Gather(*store, 1, {4}), StatusIs(kDataLoss, what));
}

TEST_F(MappedStoreTest, AFileThatShrinksOrChangesIsDataLossForGood) {
  tiny_.WriteOneFile(dir_.path());
  const std::string path = dir_.File("model.safetensors");
  const std::string bytes = ReadTestFile(path);
  for (const char* how : {"shrinks", "grows", "is written"}) {
    SCOPED_TRACE(how);
    WriteTestFile(path, bytes);
    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    int failures = 0;
    store->state().Listen([&] { ++failures; });
    EXPECT_THAT(Gather(*store, 1, {3}), IsOkAndHolds(tiny_.Row(1, 3)));
    switch (*how) {
      case 's':
        std::filesystem::resize_file(path, bytes.size() - 1);
        break;
      case 'g':
        std::filesystem::resize_file(path, bytes.size() + 1);
        break;
      default:
        WriteTestFile(path, bytes);
    }
    EXPECT_THAT(Gather(*store, 1, {3}), StatusIs(kDataLoss, path));
    EXPECT_THAT(store->state().failure(), StatusIs(kDataLoss, path));
    std::filesystem::resize_file(path, bytes.size());
    EXPECT_THAT(Gather(*store, 1, {3}), StatusIs(kDataLoss, path));
    EXPECT_EQ(failures, 1);
  }
}

// Between the reading of the headers, which say where the rows are, and the mapping: where the rows
// of the file that is there now lie, nobody has read.
TEST_F(MappedStoreTest, AFileThatIsReplacedBeforeItIsMappedIsRefused) {
  tiny_.WriteIndexed(dir_.path());
  const std::string path = dir_.File("model-00003-of-00009.safetensors");
  const std::string bytes = ReadTestFile(path);
  const struct {
    const char* how;
    std::function<void()> change;
    absl::StatusCode code;
    std::string message;
  } kCases[] = {
      {"another file of the same bytes",
       [&] {
         WriteTestFile(dir_.File("new"), bytes);
         std::filesystem::rename(dir_.File("new"), path);
       },
       kDataLoss, ": was replaced by another file after its header had been read"},
      {"cut", [&] { std::filesystem::resize_file(path, bytes.size() - 1); }, kDataLoss,
       absl::StrCat(": has ", bytes.size() - 1, " bytes; it had ", bytes.size(),
                    " when it was opened")},
      {"written", [&] { WriteTestFile(path, bytes); }, kDataLoss,
       ": has changed since it was opened (its times)"},
      {"gone", [&] { std::filesystem::remove(path); }, absl::StatusCode::kNotFound, ""},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.how);
    WriteTestFile(path, bytes);
    ASSERT_OK_AND_ASSIGN(Checkpoint opened, Checkpoint::Open(dir_.path()));
    ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, ComputeSidecar(opened, 1, nullptr));
    const auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
    test.change();
    EXPECT_THAT(
        MappedStore::Open(checkpoint, ShardRanges(checkpoint->geometry(), {}), sidecar.layers),
        StatusIs(test.code, path + test.message));
  }
}

// Whatever a gather answers while the file goes away, it is the table's rows or DataLoss.
TEST_F(MappedStoreTest, AFileThatIsCutUnderAGatherGivesNoWrongRows) {
  tiny_.layer_ids = {1};
  tiny_.bucket_floor = 20000;
  tiny_.WriteOneFile(dir_.path());
  const std::string path = dir_.File("model.safetensors");
  const std::string bytes = ReadTestFile(path);
  const std::string table = tiny_.Rows(1);
  const uint32_t rows = static_cast<uint32_t>(table.size() / tiny_.row_bytes());
  for (int turn = 0; turn < 5; ++turn) {
    WriteTestFile(path, bytes);
    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    std::atomic<uint64_t> gathers{0};
    const auto gather = [&] {
      for (uint32_t first = 0;; first = (first + 1009) % (rows - 1000)) {
        std::vector<uint32_t> ids(1000);
        for (uint32_t i = 0; i < ids.size(); ++i) ids[i] = first + i;
        const auto got = Gather(*store, 1, ids);
        if (!got.ok()) {
          EXPECT_THAT(got, StatusIs(kDataLoss, path));
          return;
        }
        EXPECT_EQ(std::memcmp(got->data(), &table[first * tiny_.row_bytes()], got->size()), 0);
        ++gathers;
      }
    };
    std::thread a(gather), b(gather);
    while (gathers < 20) std::this_thread::yield();
    std::filesystem::resize_file(path, 4096);
    a.join();
    b.join();
    EXPECT_TRUE(store->state().failed());
  }
}

TEST_F(MappedStoreTest, VerificationFindsABlockThatDiffersFromItsSum) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(Checkpoint opened, Checkpoint::Open(dir_.path()));
  ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, ComputeSidecar(opened, 1, nullptr));
  std::string bytes = ReadTestFile(dir_.File("model.safetensors"));
  bytes.back() ^= 1;
  WriteTestFile(dir_.File("model.safetensors"), bytes);
  ASSERT_OK_AND_ASSIGN(Checkpoint again, Checkpoint::Open(dir_.path()));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(again));
  ASSERT_OK_AND_ASSIGN(
      const auto store,
      MappedStore::Open(checkpoint, ShardRanges(checkpoint->geometry(), {}), sidecar.layers));
  EXPECT_THAT(store->Verify({1, 0, 100}), IsOk());
  EXPECT_THAT(store->Verify({3, 0, 1}), StatusIs(kDataLoss, "layer 3 rows [0, "));
  EXPECT_THAT(Gather(*store, 1, {3}), StatusIs(kDataLoss, "layer 3 rows"));
}

}  // namespace
}  // namespace engram

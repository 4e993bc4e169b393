#include "storage/overlay_store.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "proto/crc32c.h"
#include "storage/memory_store.h"
#include "storage/synth_rows.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/fake_row_store.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr uint64_t kBaseSeed = 5;

// Rows of the synthetic table of `seed` where a row is changed, else of kBaseSeed.
void ExpectedRow(const std::set<uint64_t>& changed, uint64_t seed, uint32_t layer, uint64_t row,
                 uint8_t* out) {
  SynthRow(changed.contains(row) ? seed : kBaseSeed, layer, row, out);
}

class OverlayStoreTest : public ::testing::Test {
 protected:
  static Geometry MakeGeometry(uint64_t floor) {
    TinyCheckpoint tiny;
    tiny.bucket_floor = floor;
    return tiny.DeriveGeometry();
  }
  std::shared_ptr<const MemoryStore> Base(std::vector<RowRange> ranges) {
    auto store = MemoryStore::Create(geometry_, PackedFp8Layout(256), std::move(ranges)).value();
    for (const RowRange& range : store->ranges()) {
      for (uint64_t row = range.begin; row < range.end; ++row) {
        const MemoryStore::Place place = store->PlaceOf(range.layer, row);
        SynthRow(kBaseSeed, range.layer, row, place.rows);
        *place.checksums = Crc32c(place.rows, kSynthRowBytes);
      }
    }
    return store;
  }
  // A delta of rows of layer 1: from `base` to those of another seed.
  std::string Write(const RowStore& base, const std::set<uint64_t>& rows, uint64_t seed) {
    DeltaHeader header;
    header.row_bytes = kSynthRowBytes;
    for (const LayerGeometry& layer : geometry_.layers()) {
      header.layers.push_back({layer.layer_id, layer.rows, 0});
    }
    const std::string path = dir_.File("d" + std::to_string(seed));
    auto writer = DeltaWriter::Create(path, header).value();
    for (const uint64_t row : rows) {
      uint8_t was[kSynthRowBytes], is[kSynthRowBytes];
      EXPECT_THAT(base.Gather(1, std::span<const uint64_t>(&row, 1), was, nullptr), IsOk());
      SynthRow(seed, 1, row, is);
      DeltaRow record{0, row, {}, Crc32c(is, kSynthRowBytes), is};
      record.before.AddRow(1, row, was, kSynthRowBytes);
      EXPECT_THAT(writer->Add(record), IsOk());
    }
    EXPECT_THAT(writer->Finish(), IsOk());
    return path;
  }
  static absl::StatusOr<std::shared_ptr<const OverlayStore>> Load(
      std::shared_ptr<const RowStore> base, const std::string& path) {
    auto reader = DeltaReader::Open(path);
    EXPECT_THAT(reader, IsOk());
    return OverlayStore::Load(std::move(base), **reader);
  }
  // Rows of any kind, so many of them, from the ranges of layer 1.
  template <typename Id>
  void ExpectRows(const RowStore& store, const std::vector<Id>& ids,
                  const std::function<void(uint64_t, uint8_t*)>& expected_row) {
    ASSERT_THAT(store.Check(1, std::span<const Id>(ids)), IsOk());
    std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xEE);
    std::vector<uint32_t> sums(ids.size());
    ASSERT_THAT(store.Gather(1, std::span<const Id>(ids), out.data(), sums.data()), IsOk());
    for (size_t i = 0; i < ids.size(); ++i) {
      uint8_t expected[kSynthRowBytes] = {};
      if (ids[i] != kNoRowId<Id>) expected_row(ids[i], expected);
      ASSERT_EQ(std::memcmp(out.data() + i * kSynthRowBytes, expected, kSynthRowBytes), 0)
          << ids[i];
      ASSERT_EQ(sums[i], Crc32c(expected, kSynthRowBytes)) << ids[i];
    }
  }
  template <typename Id>
  std::vector<Id> RandomIds(const std::vector<RowRange>& ranges, size_t count) {
    std::vector<Id> ids;
    for (size_t i = 0; i < count; ++i) {
      const RowRange& range = ranges[random_() % ranges.size()];
      ids.push_back(random_() % 50 == 0 ? kNoRowId<Id>
                                        : static_cast<Id>(range.begin + random_() % range.rows()));
    }
    return ids;
  }

  TempDir dir_;
  std::mt19937_64 random_{1};
  const Geometry geometry_ = MakeGeometry(2000);
  const uint64_t rows_ = geometry_.layers()[0].rows;
};

TEST_F(OverlayStoreTest, GivesChangedRowsAndTheBasesOthers) {
  const std::vector<RowRange> whole = {{1, 0, rows_}};
  const std::vector<RowRange> cut = {{1, 10, 900}, {1, 1000, 1001}, {1, 3000, rows_ - 5}};
  for (const auto& ranges : {whole, cut}) {
    for (const size_t one_in : {1, 3, 100, 2000}) {
      SCOPED_TRACE(testing::Message() << ranges.size() << " ranges, one changed in " << one_in);
      const auto base = Base(ranges);
      std::set<uint64_t> changed;
      for (const RowRange& range : ranges) {
        changed.insert(range.begin);
        changed.insert(range.end - 1);
        for (uint64_t row = range.begin; row < range.end; ++row) {
          if (random_() % one_in == 0) changed.insert(row);
        }
      }
      ASSERT_OK_AND_ASSIGN(const auto overlay, Load(base, Write(*base, changed, 77)));
      const auto expected = [&](uint64_t row, uint8_t* out) {
        ExpectedRow(changed, 77, 1, row, out);
      };
      for (const size_t count : {0, 1, 31, 32, 33, 1024, 2500}) {
        ExpectRows(*overlay, RandomIds<uint32_t>(ranges, count), expected);
        ExpectRows(*overlay, RandomIds<uint64_t>(ranges, count), expected);
      }
      const std::vector<uint64_t> edges(changed.begin(), changed.end());
      ExpectRows(*overlay, edges, expected);
      for (const RowRange& range : ranges) EXPECT_THAT(overlay->Verify(range), IsOk());
      // The base is as it was.
      ExpectRows(*base, edges,
                 [](uint64_t row, uint8_t* out) { SynthRow(kBaseSeed, 1, row, out); });
    }
  }
}

TEST_F(OverlayStoreTest, ADeltaOnADelta) {
  const std::vector<RowRange> ranges = {{1, 0, rows_}};
  const auto base = Base(ranges);
  std::set<uint64_t> first, second;
  for (uint64_t row = 0; row < rows_; row += 3) first.insert(row);
  for (uint64_t row = 0; row < rows_; row += 7) second.insert(row);
  ASSERT_OK_AND_ASSIGN(const auto lower, Load(base, Write(*base, first, 77)));
  ASSERT_OK_AND_ASSIGN(const auto upper, Load(lower, Write(*lower, second, 78)));
  ExpectRows(*upper, RandomIds<uint32_t>(ranges, 3000), [&](uint64_t row, uint8_t* out) {
    SynthRow(second.contains(row) ? 78 : first.contains(row) ? 77 : kBaseSeed, 1, row, out);
  });
  // The second delta is none of the table below.
  EXPECT_THAT(Load(base, Write(*lower, second, 79)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "row 0 of layer 1 is not the one that the delta was made from"));
}

// A base on disk: its rows come later, some never; a changed row is there whatever became of the
// one below.
TEST_F(OverlayStoreTest, OverAStoreThatWaits) {
  const auto base = std::make_shared<FakeRowStore>(geometry_, PackedFp8Layout(256),
                                                   std::vector<RowRange>{{1, 0, rows_}});
  const std::set<uint64_t> first = {0, 3, 500}, second = {3, 7, 1500};
  ASSERT_OK_AND_ASSIGN(const auto lower, Load(base, Write(*base, first, 77)));
  ASSERT_OK_AND_ASSIGN(const auto upper, Load(lower, Write(*lower, second, 78)));
  base->WaitFrom(400);
  base->Lose(500);  // changed
  base->Lose(501);
  ASSERT_TRUE(upper->may_wait());
  std::vector<uint32_t> ids = {3, 500, 501, 7, kNoRow32, 900, 0, 1500};
  for (uint32_t row = 0; row < 1500; ++row) ids.push_back(row);  // more than are looked at at once
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xEE);
  std::vector<uint32_t> sums(ids.size());
  PendingGather gather;
  gather.out = out.data();
  gather.checksums = sums.data();
  bool done = false;
  gather.done = [&] { done = true; };
  ASSERT_FALSE(upper->StartGather(1, std::span<const uint32_t>(ids), gather));
  EXPECT_FALSE(done);
  base->Release();
  ASSERT_TRUE(done);
  ASSERT_THAT(gather.status, IsOk());
  ASSERT_EQ(gather.failures.size(), 2u);
  EXPECT_EQ(gather.failures[0].position, 2u);
  EXPECT_EQ(gather.failures[1].position, 8u + 501u);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == 501) continue;
    uint8_t expected[kSynthRowBytes];
    const uint64_t row = ids[i] == kNoRow32 ? kNoRow64 : ids[i];
    if (second.contains(row) || first.contains(row)) {
      SynthRow(second.contains(row) ? 78 : 77, 1, row, expected);
    } else {
      std::memcpy(expected, FakeRowStore::RowBytes(1, row, kSynthRowBytes).data(), kSynthRowBytes);
    }
    ASSERT_EQ(std::memcmp(out.data() + i * kSynthRowBytes, expected, kSynthRowBytes), 0) << i;
    EXPECT_EQ(sums[i], Crc32c(expected, kSynthRowBytes)) << i;
  }
  // What need not wait is there at once.
  const std::vector<uint32_t> near = {3, 7, 8};
  ASSERT_TRUE(upper->StartGather(1, std::span<const uint32_t>(near), gather));
  uint8_t expected[kSynthRowBytes];
  SynthRow(78, 1, 7, expected);
  EXPECT_EQ(std::memcmp(out.data() + kSynthRowBytes, expected, kSynthRowBytes), 0);
}

TEST_F(OverlayStoreTest, RowsThatAreNotHeldAreRefused) {
  const auto whole = Base({{1, 0, rows_}});
  const std::string path = Write(*whole, {5, 600}, 77);
  EXPECT_THAT(Load(Base({{1, 0, 500}}), path),
              StatusIs(absl::StatusCode::kFailedPrecondition, "is not held by this server"));
}

TEST_F(OverlayStoreTest, ChangedRowsTakeLittleMemoryBesideTheirBytes) {
  const auto base = Base({{1, 0, rows_}});
  for (const uint64_t step : {1, 2, 100, 1000}) {
    std::set<uint64_t> changed;
    for (uint64_t row = random_() % step; row < rows_; row += step) changed.insert(row);
    ASSERT_OK_AND_ASSIGN(const auto overlay, Load(base, Write(*base, changed, 77)));
    const auto rows = static_cast<double>(changed.size());
    EXPECT_LE(static_cast<double>(overlay->changed()->memory_bytes()),
              rows * (1.1 * kSynthRowBytes + 16))
        << step;
  }
}

TEST(ChangedIndexTest, IdsBeyond32BitsDoNotWrap) {
  const uint64_t far = uint64_t{1} << 33;
  const ChangedIndex index({5, far + 7, far + 9});
  ChangedIndex::Hit hits[8];
  const std::vector<uint64_t> wide = {far + 7, 7, kNoRow64, far + 8, 5, far + 9, far + 10};
  ASSERT_EQ(index.FindSome(std::span<const uint64_t>(wide), hits), 3u);
  EXPECT_EQ(hits[0].position, 0u);
  EXPECT_EQ(hits[0].index, 1u);
  EXPECT_EQ(hits[1].position, 4u);
  EXPECT_EQ(hits[1].index, 0u);
  EXPECT_EQ(hits[2].position, 5u);
  EXPECT_EQ(hits[2].index, 2u);
  const std::vector<uint32_t> narrow = {7, 9, 5, kNoRow32};
  ASSERT_EQ(index.FindSome(std::span<const uint32_t>(narrow), hits), 1u);
  EXPECT_EQ(hits[0].position, 2u);
}

}  // namespace
}  // namespace engram

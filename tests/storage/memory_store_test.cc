#include "storage/memory_store.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "proto/crc32c.h"
#include "storage/synth_rows.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr uint64_t kSeed = 5;

// Synthetic rows in every place of the store, with their checksums.
std::unique_ptr<MemoryStore> Filled(const Geometry& geometry, std::vector<RowRange> ranges) {
  auto store = MemoryStore::Create(geometry, PackedFp8Layout(256), std::move(ranges));
  EXPECT_THAT(store, IsOk());
  for (size_t i = 0; i < (*store)->ranges().size(); ++i) {
    const RowRange range = (*store)->ranges()[i];
    for (uint64_t row = range.begin; row < range.end; ++row) {
      const MemoryStore::Place place = (*store)->PlaceOf(range.layer, row);
      SynthRow(kSeed, range.layer, row, place.rows);
      *place.checksums = Crc32c(place.rows, kSynthRowBytes);
    }
  }
  return *std::move(store);
}

template <typename Id>
void ExpectRows(const RowStore& store, uint32_t layer, const std::vector<Id>& ids) {
  ASSERT_THAT(store.Check(layer, std::span<const Id>(ids)), IsOk());
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xEE);
  std::vector<uint32_t> sums(ids.size());
  ASSERT_THAT(store.Gather(layer, std::span<const Id>(ids), out.data(), sums.data()), IsOk());
  std::vector<uint8_t> bare(out.size(), 0xDD);
  ASSERT_THAT(store.Gather(layer, std::span<const Id>(ids), bare.data(), nullptr), IsOk());
  EXPECT_EQ(bare, out);
  for (size_t i = 0; i < ids.size(); ++i) {
    uint8_t expected[kSynthRowBytes] = {};
    if (ids[i] != static_cast<Id>(~Id{0})) SynthRow(kSeed, layer, ids[i], expected);
    ASSERT_EQ(std::memcmp(out.data() + i * kSynthRowBytes, expected, kSynthRowBytes), 0) << ids[i];
    ASSERT_EQ(sums[i], Crc32c(expected, kSynthRowBytes)) << ids[i];
  }
}

class MemoryStoreTest : public ::testing::Test {
 protected:
  const Geometry geometry_ = TinyCheckpoint().DeriveGeometry();  // layers 1 and 3
  const uint64_t rows_ = geometry_.layers()[0].rows;
};

TEST_F(MemoryStoreTest, OneRangePerLayer) {
  const auto store = Filled(geometry_, {{1, 10, 110}});
  EXPECT_EQ(store->bytes(), 100u * kSynthRowBytes);
  ExpectRows<uint32_t>(*store, 1, {10, 109, kNoRow32, 50, 50, kNoRow32});
  ExpectRows<uint64_t>(*store, 1, {109, kNoRow64, 10});
  ExpectRows<uint32_t>(*store, 1, {});
}

TEST_F(MemoryStoreTest, ManyRangesInAnyOrder) {
  const auto store = Filled(geometry_, {{3, 5, 9}, {1, 100, 120}, {1, 0, 3}, {1, 50, 51}});
  EXPECT_THAT(store->ranges(), testing::ElementsAre(RowRange{1, 0, 3}, RowRange{1, 50, 51},
                                                    RowRange{1, 100, 120}, RowRange{3, 5, 9}));
  ExpectRows<uint32_t>(*store, 1, {119, 0, kNoRow32, 50, 2, 100});
  ExpectRows<uint64_t>(*store, 1, {50, kNoRow64, 119, 1});
  ExpectRows<uint32_t>(*store, 3, {8, 5, kNoRow32});
}

TEST_F(MemoryStoreTest, CheckSaysWhichIdAndWhy) {
  for (const bool several : {false, true}) {
    SCOPED_TRACE(several);
    std::vector<RowRange> ranges = {{1, 10, 110}};
    if (several) ranges.push_back({1, 120, 130});
    const auto store = Filled(geometry_, ranges);
    const auto check32 = [&](uint32_t layer, std::vector<uint32_t> ids) {
      return store->Check(layer, std::span<const uint32_t>(ids));
    };
    const auto check64 = [&](std::vector<uint64_t> ids) {
      return store->Check(1, std::span<const uint64_t>(ids));
    };
    constexpr auto kStale = absl::StatusCode::kFailedPrecondition;
    constexpr auto kRange = absl::StatusCode::kOutOfRange;
    EXPECT_THAT(check32(1, {10, kNoRow32, 9}),
                StatusIs(kStale, "row id 9 at position 2 of layer 1 is not held by this server"));
    EXPECT_THAT(check32(1, {110}), StatusIs(kStale, "row id 110 at position 0"));
    EXPECT_THAT(check64({10, 9, uint64_t{1} << 40}), StatusIs(kStale, "row id 9 at position 1"));
    EXPECT_THAT(check32(1, {10, static_cast<uint32_t>(rows_), 9}),
                StatusIs(kRange, "at position 1 is not a row of layer 1, which has "));
    EXPECT_THAT(check32(1, {kNoRow32 - 1}), StatusIs(kRange, "row id 4294967294 at position 0"));
    // 2^32 more than a held row: must not be cut to it; nor is the short "no row" the long one.
    EXPECT_THAT(check64({(uint64_t{1} << 32) + 10}), StatusIs(kRange, "row id 4294967306"));
    EXPECT_THAT(check64({kNoRow32}), StatusIs(kRange, "row id 4294967295"));
    EXPECT_THAT(check32(3, {0}), StatusIs(kStale, "row id 0 at position 0 of layer 3"));
    EXPECT_THAT(check32(3, {kNoRow32}), IsOk());
    EXPECT_THAT(check32(2, {}), StatusIs(absl::StatusCode::kNotFound, "layer 2 has no table here"));
  }
}

// A layer beyond 32 bits is asked with 64-bit ids; short ids must not wrap into a held range.
TEST_F(MemoryStoreTest, ShortIdsDoNotWrapIntoRangesBeyond32Bits) {
  TinyCheckpoint huge;
  huge.bucket_floor = uint64_t{1} << 31;
  const uint64_t begin = uint64_t{1} << 32;
  const auto store = Filled(huge.DeriveGeometry(), {{1, begin, begin + 10}});
  ExpectRows<uint64_t>(*store, 1, {begin + 9, kNoRow64, begin});
  const std::vector<uint32_t> wrapped = {5};
  EXPECT_THAT(store->Check(1, std::span<const uint32_t>(wrapped)),
              StatusIs(absl::StatusCode::kFailedPrecondition, "row id 5 at position 0"));
}

TEST_F(MemoryStoreTest, BadRangesAreRefused) {
  const auto create = [&](std::vector<RowRange> ranges) {
    return MemoryStore::Create(geometry_, PackedFp8Layout(256), std::move(ranges)).status();
  };
  EXPECT_THAT(create({{2, 0, 1}}), StatusIs(kInvalid, "layer 2"));
  EXPECT_THAT(create({{1, 0, rows_ + 1}}), StatusIs(kInvalid, "layer 1"));
  EXPECT_THAT(create({{1, 0, 5}, {1, 4, 9}}), StatusIs(kInvalid, "layer 1"));
  EXPECT_THAT(create({}), IsOk());
}

}  // namespace
}  // namespace engram

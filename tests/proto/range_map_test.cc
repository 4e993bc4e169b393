#include "proto/range_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Layer 3 has 17 rows (primes 2, 3, 5, 7), layer 0 has 60 (11, 13, 17, 19).
Geometry SmallGeometry() {
  GeometryParams params;
  params.layer_ids = {3, 0};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {1, 5};
  params.compressed_vocab = 10;
  return *Geometry::Derive(params);
}

TEST(Shard, ParsesIOfN) {
  ASSERT_OK_AND_ASSIGN(const Shard shard, Shard::Parse("2/3"));
  EXPECT_EQ(shard, (Shard{2, 3}));
  EXPECT_EQ(shard.ToString(), "2/3");
  EXPECT_EQ(*Shard::Parse("0/1"), Shard());
  EXPECT_EQ(*Shard::Parse("65535/65536"), (Shard{65535, 65536}));
}

TEST(Shard, AnythingElseIsRefusedByName) {
  for (const char* text : {"",      "/",    "1",     "0/",      "/1",
                           "1/1",   "3/2",  "0/0",   "0/65537", "-1/2",
                           "0/-2",  "+0/2", " 0/2",  "0 /2",    "0/2 ",
                           "0/2/3", "a/b",  "0x0/2", "0.0/2",   "4294967296/4294967297"}) {
    EXPECT_THAT(Shard::Parse(text), StatusIs(kInvalid, std::string("shard `") + text + "`"));
  }
}

TEST(RowRange, Text) { EXPECT_EQ(ToString(RowRange{1, 0, 100}), "layer 1 rows [0, 100)"); }

TEST(ShardRanges, BordersByTheFormula) {
  const Geometry geometry = SmallGeometry();
  EXPECT_THAT(ShardRanges(geometry, {0, 1}), ElementsAre(RowRange{3, 0, 17}, RowRange{0, 0, 60}));
  EXPECT_THAT(ShardRanges(geometry, {0, 3}), ElementsAre(RowRange{3, 0, 5}, RowRange{0, 0, 20}));
  EXPECT_THAT(ShardRanges(geometry, {1, 3}), ElementsAre(RowRange{3, 5, 11}, RowRange{0, 20, 40}));
  EXPECT_THAT(ShardRanges(geometry, {2, 3}), ElementsAre(RowRange{3, 11, 17}, RowRange{0, 40, 60}));
}

TEST(ShardRanges, EmptyRangesAreLeftOut) {
  const Geometry geometry = SmallGeometry();
  EXPECT_THAT(ShardRanges(geometry, {1, 60}), ElementsAre(RowRange{0, 1, 2}));
  EXPECT_THAT(ShardRanges(geometry, {0, 65536}), IsEmpty());
}

// Together the shards hold every row once, in order, and their sizes differ by one row at most.
TEST(ShardRanges, ShardsTileEveryLayer) {
  const Geometry geometry = SmallGeometry();
  for (const uint32_t count : {1u, 2u, 3u, 7u, 16u, 17u, 18u, 59u, 60u, 61u, 1000u}) {
    std::vector<RowRange> all;
    for (uint32_t index = 0; index < count; ++index) {
      for (const RowRange& range : ShardRanges(geometry, {index, count})) {
        EXPECT_THAT(ValidateRanges(geometry, {range}), IsOk());
        all.push_back(range);
      }
    }
    EXPECT_THAT(ValidateRanges(geometry, all), IsOk()) << count;
    EXPECT_EQ(TotalRows(all), geometry.total_rows()) << count;
    for (const RowRange& range : all) {
      const uint64_t rows = geometry.layers()[*geometry.LayerIndex(range.layer)].rows;
      EXPECT_GE(range.rows(), rows / count);
      EXPECT_LE(range.rows(), rows / count + 1);
    }
  }
}

// Row counts near the bounds, where rows * index passes 64 bits.
TEST(ShardRanges, HugeLayersDoNotOverflow) {
  GeometryParams params;
  params.layer_ids = {0};
  params.max_ngram = kMaxNgram;
  params.heads = kMaxHeads;
  params.bucket_floors.assign(params.orders(), kMaxBucketFloor);
  params.compressed_vocab = 10;
  const Geometry geometry = *Geometry::Derive(params);
  const uint64_t rows = geometry.total_rows();
  ASSERT_GT(rows, uint64_t{1} << 48);
  const std::vector<RowRange> last = ShardRanges(geometry, {65535, 65536});
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].end, rows);
  EXPECT_LE(last[0].rows(), rows / 65536 + 1);
  EXPECT_EQ(ShardRanges(geometry, {65534, 65536})[0].end, last[0].begin);
}

TEST(ValidateRanges, AnyOrderAndGapsAreFine) {
  const Geometry geometry = SmallGeometry();
  EXPECT_THAT(ValidateRanges(geometry, {}), IsOk());
  EXPECT_THAT(ValidateRanges(geometry, {{0, 50, 60}, {3, 0, 17}, {0, 0, 1}, {0, 1, 2}}), IsOk());
}

TEST(ValidateRanges, ComplaintsNameTheRange) {
  const Geometry geometry = SmallGeometry();
  const uint64_t max = ~uint64_t{0};
  const struct {
    std::vector<RowRange> ranges;
    const char* message;
  } kCases[] = {
      {{{3, 0, 17}, {1, 0, 5}}, "layer 1 rows [0, 5): layer 1 has no Engram table"},
      {{{3, 4, 4}}, "layer 3 rows [4, 4) is empty or inverted"},
      {{{3, 5, 4}}, "layer 3 rows [5, 4) is empty or inverted"},
      {{{3, 0, 18}}, "layer 3 rows [0, 18) goes beyond the layer's 17 rows"},
      {{{0, 0, max}}, "goes beyond the layer's 60 rows"},
      {{{0, 17, 18}, {3, 17, 18}}, "layer 3 rows [17, 18) goes beyond"},
      {{{0, 10, 20}, {3, 0, 5}, {0, 0, 11}}, "overlap: layer 0 rows [0, 11) and layer 0 rows [10"},
      {{{0, 0, 60}, {0, 0, 60}}, "overlap"},
      {{{0, 0, 60}, {0, 20, 30}}, "overlap"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(ValidateRanges(geometry, test.ranges), StatusIs(kInvalid, test.message));
  }
}

TEST(TotalRows, Adds) {
  EXPECT_EQ(TotalRows({}), 0u);
  EXPECT_EQ(TotalRows({{0, 5, 10}, {3, 0, 2}}), 7u);
}

}  // namespace
}  // namespace engram

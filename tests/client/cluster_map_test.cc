#include "client/cluster_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Geometry TinyGeometry() {
  GeometryParams params;
  params.layer_ids = {0, 2};
  params.max_ngram = 3;
  params.heads = 3;
  params.bucket_floors = {11, 17};
  params.seed = 7;
  params.compressed_vocab = 50;
  params.pad_token = 4;
  return *Geometry::Derive(params);  // 112 and 252 rows
}

TEST(ClusterMap, EqualShardsCoverEveryRowOnce) {
  const Geometry geometry = TinyGeometry();
  std::vector<std::vector<RowRange>> held;
  for (uint32_t i = 0; i < 5; ++i) held.push_back(ShardRanges(geometry, {i, 5}));
  const ClusterMap map(geometry, held);
  for (size_t layer = 0; layer < 2; ++layer) {
    const LayerSegments& segments = map.layer(layer);
    ASSERT_EQ(segments.all().size(), 5u);
    for (uint64_t row = 0; row < geometry.layers()[layer].rows; ++row) {
      const Segment& segment = segments.all()[segments.Find(row)];
      EXPECT_LE(segment.begin, row);
      EXPECT_LT(row, segment.end);
      EXPECT_EQ(segment.servers.size(), 1u);
    }
  }
  EXPECT_THAT(map.Missing(std::vector<bool>(5, true)), IsEmpty());
}

TEST(ClusterMap, NamesWhatNobodyUsableHoldsMergedAcrossBorders) {
  const Geometry geometry = TinyGeometry();
  const ClusterMap map(geometry, {{{0, 0, 50}, {2, 0, 252}}, {{0, 40, 60}}, {{0, 70, 112}}});
  EXPECT_THAT(map.Missing({true, true, true}), ElementsAre(RowRange{0, 60, 70}));
  EXPECT_THAT(map.Missing({true, false, false}), ElementsAre(RowRange{0, 50, 112}));
  EXPECT_THAT(map.Missing({false, true, true}),
              ElementsAre(RowRange{0, 0, 40}, RowRange{0, 60, 70}, RowRange{2, 0, 252}));
}

TEST(ClusterMap, ReplicasShareASegment) {
  const Geometry geometry = TinyGeometry();
  const std::vector<RowRange> whole = ShardRanges(geometry, {0, 1});
  const ClusterMap map(geometry, {whole, whole});
  ASSERT_EQ(map.layer(0).all().size(), 1u);
  EXPECT_THAT(map.layer(0).all()[0].servers, ElementsAre(0, 1));
  EXPECT_THAT(map.Missing({false, true}), IsEmpty());
}

TEST(ClusterMap, FindsRowsOfVeryUnevenSegments) {
  const Geometry geometry = TinyGeometry();
  std::vector<std::vector<RowRange>> held(2);
  held[0] = {{2, 0, 1}, {2, 2, 3}, {2, 4, 5}, {2, 250, 252}};
  held[1] = {{2, 6, 249}};
  const ClusterMap map(geometry, held);
  for (uint64_t row = 0; row < 252; ++row) {
    const Segment& segment = map.layer(1).all()[map.layer(1).Find(row)];
    EXPECT_TRUE(segment.begin <= row && row < segment.end) << row;
  }
}

// As many ranges as a server's description has room for: a table of single rows, every other one on
// the other server. Work that grew with their square would outlast the test's time limit.
TEST(ClusterMap, ManyRanges) {
  GeometryParams params = TinyGeometry().params();
  params.bucket_floors = {100000, 100000};
  const Geometry geometry = *Geometry::Derive(params);
  const uint64_t rows = geometry.layers()[0].rows;
  std::vector<std::vector<RowRange>> held(2);
  for (uint64_t row = 0; row < rows; ++row) held[row % 2].push_back({0, row, row + 1});
  const ClusterMap map(geometry, held);
  ASSERT_EQ(map.layer(0).all().size(), rows);
  EXPECT_THAT(map.layer(0).all()[rows - 1].servers, ElementsAre((rows - 1) % 2));
}

// One huge range among thousands of small ones, wherever it stands.
TEST(LayerSegments, UnevenRangesAreFound) {
  constexpr uint64_t kHuge = uint64_t{1} << 40;
  std::mt19937_64 random(5);
  for (const size_t huge : {size_t{0}, size_t{1000}, size_t{1999}}) {
    std::vector<Segment> segments;
    uint64_t begin = 0;
    for (size_t i = 0; i < 2000; ++i) {
      const uint64_t rows = i == huge ? kHuge : 1 + random() % 100;
      segments.push_back({begin, begin + rows, {i}});
      begin += rows;
    }
    const LayerSegments layer(segments);
    for (size_t i = 0; i < segments.size(); ++i) {
      const Segment& segment = segments[i];
      const uint64_t within = segment.begin + random() % (segment.end - segment.begin);
      for (const uint64_t row : {segment.begin, within, segment.end - 1}) {
        ASSERT_EQ(layer.Find(row), i) << row;
      }
    }
  }
}

}  // namespace
}  // namespace engram

#include "proto/shard_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/shard_layout.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using ::testing::ElementsAre;

// Layers 1 and 4, four columns each of a few primes from 11 on.
Geometry MakeGeometry() {
  GeometryParams params;
  params.layer_ids = {1, 4};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {11, 11};
  params.compressed_vocab = 10;
  return *Geometry::Derive(params);
}

class ShardMapTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<std::vector<RowRange>>> Ranges(const std::string& shards) {
    const auto map = ShardMap::Parse(absl::StrCat("{\"shards\": [", shards, "]}"), "map.json");
    if (!map.ok()) return map.status();
    return map->Ranges(geometry_);
  }
  // A shard with explicit ranges.
  static std::string With(const std::string& name, const std::vector<RowRange>& ranges) {
    std::string text = absl::StrCat("{\"name\": \"", name, "\", \"ranges\": [");
    for (size_t i = 0; i < ranges.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : ",", "{\"layer\":", ranges[i].layer,
                      ",\"begin\":", ranges[i].begin, ",\"end\":", ranges[i].end, "}");
    }
    return text + "]}";
  }

  const Geometry geometry_ = MakeGeometry();
  const uint64_t rows1_ = geometry_.layers()[0].rows;
  const uint64_t rows4_ = geometry_.layers()[1].rows;
};

TEST_F(ShardMapTest, SharesCutEveryLayerInProportion) {
  ASSERT_OK_AND_ASSIGN(
      const auto ranges,
      Ranges(
          R"({"name": "big", "share": 3}, {"name": "a", "share": 1}, {"name": "b", "share": 1})"));
  ASSERT_EQ(ranges.size(), 3u);
  EXPECT_THAT(ranges[0],
              ElementsAre(RowRange{1, 0, rows1_ * 3 / 5}, RowRange{4, 0, rows4_ * 3 / 5}));
  EXPECT_THAT(ranges[1], ElementsAre(RowRange{1, rows1_ * 3 / 5, rows1_ * 4 / 5},
                                     RowRange{4, rows4_ * 3 / 5, rows4_ * 4 / 5}));
  EXPECT_EQ(ranges[2][1].end, rows4_);
}

TEST_F(ShardMapTest, EqualSharesAreEqualShards) {
  std::string text;
  for (int i = 0; i < 7; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", "{\"name\": \"s", i, "\", \"share\": 4294967296}");
  }
  ASSERT_OK_AND_ASSIGN(const auto ranges, Ranges(text));
  for (uint32_t i = 0; i < 7; ++i) EXPECT_EQ(ranges[i], ShardRanges(geometry_, {i, 7}));
}

TEST_F(ShardMapTest, MoreShardsThanRowsOfALayer) {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",", "{\"name\": \"s", i, "\", \"share\": 1}");
  }
  ASSERT_GT(rows4_, 60u);
  EXPECT_THAT(Ranges(text), IsOk());  // Some hold no row of layer 1.
  for (int i = 60; i < 200; ++i) absl::StrAppend(&text, ",{\"name\": \"s", i, "\", \"share\": 1}");
  EXPECT_THAT(Ranges(text), StatusIs(kInvalid, "map.json: shard `s0` would hold no rows"));
}

TEST_F(ShardMapTest, ExplicitRangesInAnyOrder) {
  ASSERT_OK_AND_ASSIGN(const auto ranges,
                       Ranges(With("a", {{4, 40, rows4_}, {1, 0, 10}, {1, 20, rows1_}}) + "," +
                              With("b", {{1, 10, 20}, {4, 0, 40}})));
  EXPECT_THAT(ranges[0],
              ElementsAre(RowRange{4, 40, rows4_}, RowRange{1, 0, 10}, RowRange{1, 20, rows1_}));
}

TEST_F(ShardMapTest, RefusesRangesThatDoNotMakeUpTheTable) {
  const RowRange all1 = {1, 0, rows1_}, all4 = {4, 0, rows4_};
  EXPECT_THAT(
      Ranges(With("a", {all1})),
      StatusIs(kInvalid, absl::StrCat("map.json: no shard holds layer 4 rows [0, ", rows4_, ")")));
  EXPECT_THAT(Ranges(With("a", {{1, 3, rows1_}, all4})),
              StatusIs(kInvalid, "no shard holds layer 1 rows [0, 3)"));
  EXPECT_THAT(Ranges(With("a", {{1, 0, 3}, {1, 7, rows1_}, all4})),
              StatusIs(kInvalid, "no shard holds layer 1 rows [3, 7)"));
  EXPECT_THAT(Ranges(With("a", {{1, 0, 5}, all4})),
              StatusIs(kInvalid, absl::StrCat("no shard holds layer 1 rows [5, ", rows1_, ")")));
  EXPECT_THAT(Ranges(With("a", {all1, all4}) + "," + With("b", {{1, 10, 11}})),
              StatusIs(kInvalid, absl::StrCat("shards `a` and `b` overlap: layer 1 rows [0, ",
                                              rows1_, ") and layer 1 rows [10, 11)")));
  EXPECT_THAT(Ranges(With("a", {all1, all4, {1, 10, 11}})),
              StatusIs(kInvalid, "shard `a`: ranges overlap"));
  EXPECT_THAT(Ranges(With("a", {{1, 0, rows1_ + 1}, all4})),
              StatusIs(kInvalid, "goes beyond the layer's"));
  EXPECT_THAT(Ranges(With("a", {{1, 9, 5}})), StatusIs(kInvalid, "is empty or inverted"));
  EXPECT_THAT(Ranges(With("a", {{1, 5, 5}})), StatusIs(kInvalid, "is empty or inverted"));
  EXPECT_THAT(Ranges(With("a", {{2, 0, 5}})), StatusIs(kInvalid, "layer 2 has no Engram table"));
}

TEST_F(ShardMapTest, RefusesOtherForms) {
  const auto parse = [](const std::string& text) { return ShardMap::Parse(text, "map.json"); };
  EXPECT_THAT(parse("[]"), StatusIs(kInvalid, "map.json"));
  EXPECT_THAT(parse("{"), StatusIs(kInvalid, "map.json"));
  EXPECT_THAT(parse("{}"), StatusIs(kInvalid, "field `shards` is missing"));
  EXPECT_THAT(parse(R"({"shards": []})"), StatusIs(kInvalid, "field `shards` is missing"));
  EXPECT_THAT(parse(R"({"shards": [], "x": 1})"), StatusIs(kInvalid, "field `x` is not known"));
  EXPECT_THAT(parse(R"({"shards": [3]})"), StatusIs(kInvalid, "element 0 that is not an object"));
  EXPECT_THAT(Ranges(R"({"name": "a", "size": 1})"),
              StatusIs(kInvalid, "map.json: shard 0: field `size` is not known"));
  EXPECT_THAT(Ranges(R"({"share": 1})"), StatusIs(kInvalid, "field `name` is missing"));
  for (const char* name : {"", "a b", "a/b", "\\u00e9"}) {
    EXPECT_THAT(Ranges(absl::StrCat("{\"name\": \"", name, "\", \"share\": 1}")),
                StatusIs(kInvalid, "field `name` is not 1 to 63 printable characters"));
  }
  EXPECT_THAT(Ranges(R"({"name": "a", "share": 1}, {"name": "a", "share": 2})"),
              StatusIs(kInvalid, "shard 1: field `name` is `a`, as of another shard"));
  EXPECT_THAT(Ranges(R"({"name": "a"})"), StatusIs(kInvalid, "every shard has a share, or"));
  EXPECT_THAT(Ranges(R"({"name": "a", "share": 1}, )" + With("b", {{1, 0, 5}})),
              StatusIs(kInvalid, "shard 1: field `ranges` contradicts the file"));
  for (const char* share : {"0", "-1", "1.5", "4294967297", "18446744073709551616", "\"1\""}) {
    EXPECT_THAT(Ranges(absl::StrCat("{\"name\": \"a\", \"share\": ", share, "}")),
                StatusIs(kInvalid, "field `share`"));
  }
  EXPECT_THAT(Ranges(R"({"name": "a", "ranges": [{"layer": 1, "begin": 0}]})"),
              StatusIs(kInvalid, "shard 0: range 0: field `end` is missing"));
  std::string many;
  for (int i = 0; i <= 65536; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "{}");
  EXPECT_THAT(Ranges(many), StatusIs(kInvalid, "has 65537 elements; at most 65536 are accepted"));
  EXPECT_THAT(Ranges(absl::StrCat(R"({"name": "a", "ranges": [)", many, "]}")),
              StatusIs(kInvalid,
                       "map.json: shard 0: field `ranges` has 65537 elements; at most 65536 are "
                       "accepted"));
}

TEST_F(ShardMapTest, FindsAShardByItsName) {
  ASSERT_OK_AND_ASSIGN(
      const ShardMap map,
      ShardMap::Parse(R"({"shards": [{"name": "a", "share": 1}, {"name": "b", "share": 1}]})",
                      "map.json"));
  EXPECT_THAT(map.Find("b"), IsOkAndHolds(Shard{1, 2}));
  EXPECT_THAT(map.Find("c"),
              StatusIs(absl::StatusCode::kNotFound, "map.json has no shard `c`; it has a, b"));
}

// ---------------------------------------------------------------- what a cut means

TEST(ShardLayout, OneShardIsTouchedOnce) {
  const Geometry geometry = MakeGeometry();
  const ShardLayout layout = PlanShardLayout(geometry, {ShardRanges(geometry, {})}, 64);
  EXPECT_EQ(layout.smallest_rows, geometry.total_rows());
  EXPECT_EQ(layout.largest_rows, geometry.total_rows());
  ASSERT_EQ(layout.layers.size(), 2u);
  EXPECT_EQ(layout.layers[1].layer, 4u);
  EXPECT_DOUBLE_EQ(layout.layers[1].shards_per_token, 1);
  EXPECT_DOUBLE_EQ(layout.layers[1].shards_per_batch, 1);
  EXPECT_DOUBLE_EQ(layout.layers[1].largest_share, 1);
}

// A shard a column: every token needs all of them.
TEST(ShardLayout, ShardsAlongColumnsAreAllTouched) {
  const Geometry geometry = MakeGeometry();
  std::vector<std::vector<RowRange>> shards;
  for (const HashColumn& column : geometry.layers()[0].columns) {
    shards.push_back({{1, column.offset, column.offset + column.prime}});
  }
  EXPECT_DOUBLE_EQ(PlanShardLayout(geometry, shards, 1).layers[0].shards_per_token, 4);
}

TEST(ShardLayout, AgreesWithDrawnTokens) {
  const Geometry geometry = MakeGeometry();
  const std::vector<uint64_t> borders = {0, 3, 4, 25, 26, 40, geometry.layers()[0].rows};
  std::vector<std::vector<RowRange>> shards;
  for (size_t i = 0; i + 1 < borders.size(); ++i) {
    shards.push_back({{1, borders[i], borders[i + 1]}});
  }
  constexpr int kBatch = 5;
  const LayerSpread spread = PlanShardLayout(geometry, shards, kBatch).layers[0];
  std::mt19937_64 random(3);
  constexpr int kDraws = 40000;
  double per_token = 0, per_batch = 0;
  std::vector<double> asked(shards.size());
  std::set<size_t> batch;
  for (int draw = 1; draw <= kDraws; ++draw) {
    std::set<size_t> token;
    for (const HashColumn& column : geometry.layers()[0].columns) {
      const uint64_t row = column.offset + random() % column.prime;
      const auto after = std::upper_bound(borders.begin(), borders.end(), row);
      const auto shard = static_cast<size_t>(after - borders.begin()) - 1;
      token.insert(shard);
      asked[shard] += 1.0 / (4.0 * kDraws);
    }
    per_token += static_cast<double>(token.size()) / kDraws;
    batch.insert(token.begin(), token.end());
    if (draw % kBatch != 0) continue;
    per_batch += static_cast<double>(batch.size()) * kBatch / kDraws;
    batch.clear();
  }
  EXPECT_NEAR(spread.shards_per_token, per_token, 0.03);
  EXPECT_NEAR(spread.shards_per_batch, per_batch, 0.03);
  EXPECT_NEAR(spread.largest_share, *std::max_element(asked.begin(), asked.end()), 0.01);
}

}  // namespace
}  // namespace engram

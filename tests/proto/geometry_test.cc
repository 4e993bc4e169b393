#include "proto/geometry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "tests/proto/flash_params.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;

GeometryParams SmallParams() {
  GeometryParams params;
  params.layer_ids = {3, 0};
  params.max_ngram = 3;
  params.heads = 2;
  params.bucket_floors = {1, 5};
  params.compressed_vocab = 10;
  return params;
}

std::vector<uint64_t> Primes(const LayerGeometry& layer) {
  std::vector<uint64_t> primes;
  for (const HashColumn& column : layer.columns) primes.push_back(column.prime);
  return primes;
}

TEST(Geometry, FlashAddsUpToTheCheckpointsRows) {
  ASSERT_OK_AND_ASSIGN(
      const Geometry geometry,
      Geometry::Derive(FlashParams(), std::vector<uint64_t>{384006168, 384016682}));
  EXPECT_EQ(geometry.columns(), 24u);
  EXPECT_EQ(geometry.total_rows(), 768022850u);
  EXPECT_EQ(geometry.total_rows() * 264, 202758032400u);
  EXPECT_THAT(geometry.layers()[0].multipliers,
              ElementsAre(76632096046245, 4839876093313, 35959672319349, 73987337458391));
  EXPECT_THAT(geometry.layers()[1].multipliers,
              ElementsAre(67716810739261, 51510806800915, 30921347202721, 82619226485591));
}

// Qwen3.8-Flash-Next, whose checkpoint states these multipliers (layer_multipliers) and has a table
// of 320,001,536 rows.
TEST(Geometry, PleAddsUpToTheCheckpointsRows) {
  GeometryParams params;
  params.rule = HashRule::kPle;
  params.layer_ids = {2};
  params.max_ngram = 3;
  params.heads = 8;
  params.bucket_floors = {20000000, 20000000};
  params.seed = 1234;
  params.compressed_vocab = 248320;
  params.pad_token = 248044;
  params.row_multiple = 128;
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  EXPECT_EQ(geometry.columns(), 16u);
  EXPECT_EQ(geometry.total_rows(), 320001536u);
  const std::vector<HashColumn>& columns = geometry.layers()[0].columns;
  EXPECT_EQ(columns.back().offset + columns.back().prime, 320001446u);
  EXPECT_EQ(columns[7].offset, 140000297u);
  EXPECT_EQ(columns[15].offset, 300001275u);
  EXPECT_THAT(geometry.layers()[0].multipliers,
              ElementsAre(23703573157769, 20109073645365, 8052911324071));
}

// Every column that is allowed, from the highest floors, which lie so close together that all
// orders cross the same primes: none is sought twice.
TEST(Geometry, TheLargestGeometryIsDerivedAtOnce) {
  GeometryParams params;
  for (uint32_t i = 0; i < 64; ++i) params.layer_ids.push_back(i);
  params.max_ngram = 5;
  params.heads = kMaxHeads;
  for (uint64_t i = 0; i < params.orders(); ++i) {
    params.bucket_floors.push_back(kMaxBucketFloor - i);
  }
  params.compressed_vocab = 10;
  ASSERT_EQ(params.layer_ids.size() * params.columns(), kMaxColumns);
  const std::clock_t start = std::clock();
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  // A fifth of a second, and what a sanitizer or an emulator makes of it.
  EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 30);
  std::set<uint64_t> primes;
  uint64_t last = 0;
  for (const LayerGeometry& layer : geometry.layers()) {
    for (const HashColumn& column : layer.columns) {
      EXPECT_GT(column.prime, last);
      last = column.prime;
      primes.insert(last);
    }
  }
  EXPECT_EQ(primes.size(), kMaxColumns);
  params.layer_ids.push_back(64);
  EXPECT_THAT(Geometry::Derive(params),
              StatusIs(kInvalid,
                       "geometry: 65 layers of 256 columns (4 n-gram orders of 64 heads) are 16640 "
                       "columns, expected at most 16384"));
}

TEST(Geometry, RowsOfAnotherRuleAreRefused) {
  EXPECT_THAT(Geometry::Derive(FlashParams(), std::vector<uint64_t>{384006168, 384016683}),
              StatusIs(kInvalid, "384006168, 384016682"));
  EXPECT_THAT(Geometry::Derive(FlashParams(), std::vector<uint64_t>{384006168}),
              StatusIs(kInvalid, "the checkpoint states [384006168]"));
}

// By hand: layers in the model's order, a prime is taken once in the whole model, and each (layer,
// order) starts again from its own floor.
TEST(Geometry, SmallWalkByHand) {
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(SmallParams()));
  ASSERT_EQ(geometry.layers().size(), 2u);
  EXPECT_EQ(geometry.layers()[0].layer_id, 3u);
  EXPECT_THAT(Primes(geometry.layers()[0]), ElementsAre(2, 3, 5, 7));
  EXPECT_THAT(Primes(geometry.layers()[1]), ElementsAre(11, 13, 17, 19));
  EXPECT_EQ(geometry.layers()[0].rows, 17u);
  EXPECT_EQ(geometry.layers()[1].rows, 60u);
}

TEST(Geometry, AHigherFloorFirstLeavesTheLowerPrimesFree) {
  GeometryParams params = SmallParams();
  params.bucket_floors = {7, 1};
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  EXPECT_THAT(Primes(geometry.layers()[0]), ElementsAre(7, 11, 2, 3));
  EXPECT_THAT(Primes(geometry.layers()[1]), ElementsAre(13, 17, 5, 19));
}

TEST(Geometry, AFloorThatIsPrimeIsTakenItself) {
  GeometryParams params = SmallParams();
  params.bucket_floors = {11, 13};
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  EXPECT_THAT(Primes(geometry.layers()[0]), ElementsAre(11, 13, 17, 19));
}

TEST(Geometry, ColumnsTileTheLayerAndPrimesNeverRepeat) {
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(FlashParams()));
  std::set<uint64_t> seen;
  for (const LayerGeometry& layer : geometry.layers()) {
    uint64_t offset = 0;
    for (const HashColumn& column : layer.columns) {
      EXPECT_EQ(column.offset, offset);
      EXPECT_TRUE(seen.insert(column.prime).second) << column.prime;
      offset += column.prime;
    }
    EXPECT_EQ(layer.rows, offset);
  }
}

// The multipliers depend on layer id, seed and compressed vocabulary, on nothing else.
TEST(Geometry, MultipliersAreOddAndKeepTheHashBelow63Bits) {
  for (const uint32_t vocab : {1u, 2u, 10u, 99092u, kMaxVocab}) {
    for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 62}) {
      GeometryParams params = SmallParams();
      params.compressed_vocab = vocab;
      params.seed = seed;
      ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
      for (const LayerGeometry& layer : geometry.layers()) {
        for (const int64_t multiplier : layer.multipliers) {
          EXPECT_EQ(multiplier % 2, 1);
          EXPECT_LE(static_cast<uint64_t>(multiplier),
                    ((uint64_t{1} << 63) - 1) / std::max(1u, vocab - 1));
        }
      }
    }
  }
}

TEST(Geometry, LayerIndexNamesWhatThereIs) {
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(SmallParams()));
  EXPECT_EQ(*geometry.LayerIndex(3), 0u);
  EXPECT_EQ(*geometry.LayerIndex(0), 1u);
  EXPECT_THAT(geometry.LayerIndex(1), StatusIs(absl::StatusCode::kNotFound, "3, 0"));
}

TEST(GeometryParams, BoundsAreNamed) {
  const struct {
    void (*change)(GeometryParams&);
    const char* message;
  } kCases[] = {
      {[](GeometryParams& p) { p.layer_ids = {}; }, "number of layers is 0"},
      {[](GeometryParams& p) {
         p.layer_ids.clear();
         for (uint32_t i = 0; i <= kMaxLayers; ++i) p.layer_ids.push_back(i);
       },
       "number of layers is 257"},
      {[](GeometryParams& p) {
         p.layer_ids = {4, 5, 4};
       },
       "layer 4 is listed twice"},
      {[](GeometryParams& p) { p.layer_ids = {65536}; }, "layer id is 65536"},
      {[](GeometryParams& p) { p.max_ngram = 0; }, "longest n-gram is 0"},
      {[](GeometryParams& p) { p.max_ngram = 1; }, "longest n-gram is 1"},
      {[](GeometryParams& p) { p.max_ngram = 9; }, "longest n-gram is 9"},
      {[](GeometryParams& p) { p.heads = 0; }, "heads per order is 0"},
      {[](GeometryParams& p) { p.heads = 65; }, "heads per order is 65"},
      {[](GeometryParams& p) { p.bucket_floors = {5}; }, "1 bucket floors for 2"},
      {[](GeometryParams& p) { p.bucket_floors = {}; }, "0 bucket floors for 2"},
      {[](GeometryParams& p) {
         p.bucket_floors = {5, 0};
       },
       "bucket floor is 0"},
      {[](GeometryParams& p) {
         p.bucket_floors = {5, kMaxBucketFloor + 1};
       },
       "bucket floor is"},
      {[](GeometryParams& p) { p.compressed_vocab = 0; }, "compressed vocabulary is 0"},
      {[](GeometryParams& p) { p.compressed_vocab = kMaxVocab + 1; }, "compressed vocabulary is"},
      {[](GeometryParams& p) { p.pad_token = kMaxVocab; }, "pad token is 67108864"},
      {[](GeometryParams& p) { p.seed = kMaxSeed + 1; }, "seed is 4611686018427387905"},
      {[](GeometryParams& p) { p.row_multiple = 0; }, "row multiple is 0"},
      {[](GeometryParams& p) { p.row_multiple = kMaxRowMultiple + 1; }, "row multiple is 1048577"},
      {[](GeometryParams& p) { p.rule = static_cast<HashRule>(2); }, "hash rule 2 is not known"},
  };
  for (const auto& test : kCases) {
    GeometryParams params = SmallParams();
    test.change(params);
    EXPECT_THAT(params.Validate(), StatusIs(kInvalid, test.message));
    EXPECT_THAT(Geometry::Derive(params), StatusIs(kInvalid, test.message));
  }
}

TEST(GeometryParams, TheBoundsThemselvesAreIn) {
  GeometryParams params;
  params.layer_ids = {0, kMaxLayerId};
  params.max_ngram = kMaxNgram;
  params.heads = kMaxHeads;
  params.bucket_floors.assign(params.orders(), kMaxBucketFloor);
  params.compressed_vocab = kMaxVocab;
  params.pad_token = kMaxVocab - 1;
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  EXPECT_GT(geometry.layers()[0].rows, kMaxBucketFloor * geometry.columns());
}

}  // namespace
}  // namespace engram

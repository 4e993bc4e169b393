#include "proto/describe.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "proto/shard_map.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

Geometry FlashGeometry() {
  GeometryParams params;
  params.layer_ids = {1, 14};
  params.max_ngram = 4;
  params.heads = 8;
  params.bucket_floors = {16000000, 16000000, 16000000};
  params.compressed_vocab = 99092;
  params.pad_token = 2;
  return *Geometry::Derive(params);
}

v1::Geometry FlashMessage() {
  v1::Geometry message;
  ToMessage(FlashGeometry(), &message);
  return message;
}

TEST(GeometryMessage, ComesBackAsItWas) {
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, GeometryFromMessage(FlashMessage()));
  EXPECT_EQ(geometry.params(), FlashGeometry().params());
  EXPECT_EQ(geometry.total_rows(), 768022850u);
}

TEST(GeometryMessage, RowsBeyond32BitsStayExact) {
  GeometryParams params = FlashGeometry().params();
  params.bucket_floors.assign(3, kMaxBucketFloor);
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, Geometry::Derive(params));
  v1::Geometry message;
  ToMessage(geometry, &message);
  EXPECT_GT(message.rows_per_layer(0), uint64_t{24} << 40);
  ASSERT_OK_AND_ASSIGN(const Geometry back, GeometryFromMessage(message));
  EXPECT_EQ(back.layers()[1].rows, geometry.layers()[1].rows);
  v1::Generation generation;
  ToMessage(ShardRanges(geometry, {1, 2}), &generation);
  EXPECT_THAT(RangesFromMessage(geometry, generation), IsOkAndHolds(ShardRanges(geometry, {1, 2})));
}

// A peer states whatever it likes; what it states is refused before anything is derived from it.
TEST(GeometryMessage, APeersFieldsHaveBounds) {
  const struct {
    void (*change)(v1::Geometry&);
    const char* message;
  } kCases[] = {
      {[](v1::Geometry& m) { m.set_seed(~uint64_t{0}); }, "geometry: seed is 18446744073709551615"},
      {[](v1::Geometry& m) { m.set_heads(~uint32_t{0}); }, "heads per order is 4294967295"},
      {[](v1::Geometry& m) { m.set_max_ngram(0); }, "longest n-gram is 0"},
      {[](v1::Geometry& m) { m.set_max_ngram(~uint32_t{0}); }, "longest n-gram is 4294967295"},
      {[](v1::Geometry& m) { m.clear_layer_ids(); }, "number of layers is 0"},
      {[](v1::Geometry& m) {
         for (uint32_t i = 100; i < 355; ++i) m.add_layer_ids(i);
       },
       "number of layers is 257"},
      {[](v1::Geometry& m) {
         m.set_heads(kMaxHeads);
         for (uint32_t i = 100; i < 184; ++i) m.add_layer_ids(i);
       },
       "86 layers of 192 columns (3 n-gram orders of 64 heads) are 16512 columns"},
      {[](v1::Geometry& m) { m.set_bucket_floors(1, ~uint64_t{0}); },
       "bucket floor is 18446744073709551615"},
      {[](v1::Geometry& m) { m.set_compressed_vocab(0); }, "compressed vocabulary is 0"},
      {[](v1::Geometry& m) { m.set_pad_token(~uint32_t{0}); }, "pad token is 4294967295"},
      {[](v1::Geometry& m) { m.set_row_multiple(~uint64_t{0}); }, "row multiple is 184467440737"},
      {[](v1::Geometry& m) { m.set_hash_rule(static_cast<v1::HashRule>(9)); },
       "hash rule 9 is not known here"},
      {[](v1::Geometry& m) { m.set_rows_per_layer(1, 384016683); },
       "but the checkpoint states [384006168, 384016683]"},
      {[](v1::Geometry& m) { m.clear_rows_per_layer(); }, "but the checkpoint states []"},
  };
  for (const auto& test : kCases) {
    v1::Geometry message = FlashMessage();
    test.change(message);
    EXPECT_THAT(GeometryFromMessage(message), StatusIs(kInvalid, test.message));
  }
}

TEST(RowLayoutMessage, ComesBackAsItWas) {
  for (const RowLayout& layout :
       {PackedFp8Layout(256), RowLayout{ValueType::kFp8E4M3, 160, ScaleType::kNone, 0},
        RowLayout{ValueType::kF32, 64, ScaleType::kNone, 0}}) {
    v1::RowLayout message;
    ToMessage(layout, &message);
    EXPECT_THAT(RowLayoutFromMessage(message), IsOkAndHolds(layout));
  }
}

TEST(RowLayoutMessage, RefusesWhatContradictsItself) {
  const struct {
    void (*change)(v1::RowLayout&);
    const char* message;
  } kCases[] = {
      {[](v1::RowLayout& m) { m.set_values(0); }, "has 0 values, expected 1 to 65536"},
      {[](v1::RowLayout& m) { m.set_values(~uint32_t{0}); }, "has 4294967295 values"},
      {[](v1::RowLayout& m) { m.set_scales(7); }, "has 7 scales of type ue8m0 for 256 values"},
      {[](v1::RowLayout& m) { m.set_row_bytes(263); }, "of 264 bytes is said to have 263"},
      {[](v1::RowLayout& m) { m.set_value_type(static_cast<v1::ValueType>(257)); },
       "unknown value type"},
      {[](v1::RowLayout& m) { m.clear_value_type(); }, "unknown value or scale type"},
      {[](v1::RowLayout& m) { m.set_scale_type(static_cast<v1::ScaleType>(9)); },
       "unknown scale type"},
  };
  for (const auto& test : kCases) {
    v1::RowLayout message;
    ToMessage(PackedFp8Layout(256), &message);
    test.change(message);
    EXPECT_THAT(RowLayoutFromMessage(message), StatusIs(kInvalid, test.message));
  }
}

TEST(TokenMapMessage, ItsHashMustBeItsOwn) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, TokenMap::Create({0, 1, 1, 2}));
  v1::TokenMap message;
  ToMessage(map, true, &message);
  ASSERT_OK_AND_ASSIGN(const TokenMap back, TokenMapFromMessage(message));
  EXPECT_EQ(back.sha256(), map.sha256());
  message.mutable_sha256()->at(0) ^= 1;
  EXPECT_THAT(TokenMapFromMessage(message), StatusIs(kInvalid, "does not have the SHA-256"));
  message.clear_compressed_ids();
  EXPECT_THAT(TokenMapFromMessage(message), StatusIs(kInvalid, "token map has 0 tokens"));
}

// As many ranges as a shard map may give a shard, each as long on the wire as one can be.
TEST(RangesMessage, TwoGenerationsFitIntoADescription) {
  v1::DescribeResponse response;
  const std::vector<RowRange> ranges(
      kMaxShardRanges, {kMaxLayerId, 192 * kMaxBucketFloor - 1, 192 * kMaxBucketFloor});
  for (int i = 0; i < 2; ++i) ToMessage(ranges, response.add_generations());
  EXPECT_LT(response.ByteSizeLong(), size_t{3} << 20);
}

TEST(RangesMessage, RefusesWhatIsNotOfTheTable) {
  const Geometry geometry = FlashGeometry();
  v1::Generation generation;
  ToMessage({{1, 0, 384006169}}, &generation);
  EXPECT_THAT(RangesFromMessage(geometry, generation),
              StatusIs(kInvalid, "goes beyond the layer's 384006168 rows"));
  ToMessage({{1, 5, 5}}, &(generation = {}));
  EXPECT_THAT(RangesFromMessage(geometry, generation), StatusIs(kInvalid, "empty or inverted"));
}

}  // namespace
}  // namespace engram

#include "proto/describe.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "proto/description.h"
#include "proto/shard_map.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

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
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, DecodeGeometry(FlashMessage().SerializeAsString()));
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
  ASSERT_OK_AND_ASSIGN(const Geometry back, DecodeGeometry(message.SerializeAsString()));
  EXPECT_EQ(back.layers()[1].rows, geometry.layers()[1].rows);
  v1::DescribeResponse description;
  ToMessage(ShardRanges(geometry, {1, 2}), description.add_generations());
  ASSERT_OK_AND_ASSIGN(const Description decoded,
                       DecodeDescription(description.SerializeAsString()));
  EXPECT_EQ(decoded.generations[0].ranges, ShardRanges(geometry, {1, 2}));
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
    EXPECT_THAT(DecodeGeometry(message.SerializeAsString()), StatusIs(kInvalid, test.message));
  }
}

TEST(RowLayoutMessage, ComesBackAsItWas) {
  for (const RowLayout& layout :
       {PackedFp8Layout(256), RowLayout{ValueType::kFp8E4M3, 160, ScaleType::kNone, 0},
        RowLayout{ValueType::kF32, 64, ScaleType::kNone, 0}}) {
    v1::RowLayout message;
    ToMessage(layout, &message);
    EXPECT_THAT(DecodeRowLayout(message.SerializeAsString()), IsOkAndHolds(layout));
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
    EXPECT_THAT(DecodeRowLayout(message.SerializeAsString()), StatusIs(kInvalid, test.message));
  }
}

TEST(TokenMapMessage, ItsHashMustBeItsOwn) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, TokenMap::Create({0, 1, 1, 2}));
  v1::TokenMap message;
  ToMessage(map, true, &message);
  ASSERT_OK_AND_ASSIGN(const TokenMap back, DecodeTokenMap(message.SerializeAsString()));
  EXPECT_EQ(back.sha256(), map.sha256());
  message.mutable_sha256()->at(0) ^= 1;
  EXPECT_THAT(DecodeTokenMap(message.SerializeAsString()),
              StatusIs(kInvalid, "does not have the SHA-256"));
  message.clear_compressed_ids();
  EXPECT_THAT(DecodeTokenMap(message.SerializeAsString()),
              StatusIs(kInvalid, "token map has 0 tokens"));
}

// As many ranges as a shard map may give a shard, each as long on the wire as one can be.
TEST(RangesMessage, TwoGenerationsFitIntoADescription) {
  v1::DescribeResponse response;
  const std::vector<RowRange> ranges(
      kMaxShardRanges, {kMaxLayerId, 192 * kMaxBucketFloor - 1, 192 * kMaxBucketFloor});
  for (int i = 0; i < 2; ++i) ToMessage(ranges, response.add_generations());
  EXPECT_LT(response.ByteSizeLong(), size_t{3} << 20);
}

v1::DescribeResponse FullDescription() {
  v1::DescribeResponse message;
  message.set_server_version("1.2.3");
  message.set_model("flash");
  *message.mutable_geometry() = FlashMessage();
  ToMessage(PackedFp8Layout(256), message.mutable_row_layout());
  ToMessage(*TokenMap::Create({0, 1, 1}), true, message.mutable_token_map());
  for (const char* const digest : {"one", "two"}) {
    v1::Generation* const generation = message.add_generations();
    generation->set_digest(digest);
    generation->set_state(v1::GENERATION_STATE_ACTIVE);
    ToMessage({{1, 5, 1 << 30}, {14, 0, uint64_t{1} << 40}}, generation);
  }
  message.set_state(v1::SERVER_STATE_DRAINING);
  message.set_shard_index(3);
  message.set_shard_count(300);
  message.mutable_limits()->set_max_rows_per_request(uint64_t{1} << 33);
  message.mutable_limits()->set_max_request_bytes(7);
  message.add_features(v1::FEATURE_ROW_CHECKSUMS);
  message.add_features(v1::FEATURE_CHANGE_NOTICES);
  message.mutable_verification()->set_passes(2);
  message.mutable_verification()->set_rows(9);
  message.set_failure("disk");
  return message;
}

TEST(Description, IsReadAsProtobufWritesIt) {
  const v1::DescribeResponse message = FullDescription();
  ASSERT_OK_AND_ASSIGN(const Description read, DecodeDescription(message.SerializeAsString()));
  EXPECT_EQ(read.server_version, "1.2.3");
  EXPECT_EQ(read.model, "flash");
  EXPECT_EQ(read.geometry, message.geometry().SerializeAsString());
  EXPECT_EQ(read.row_layout, message.row_layout().SerializeAsString());
  EXPECT_EQ(read.token_map, message.token_map().SerializeAsString());
  ASSERT_EQ(read.generations.size(), 2u);
  EXPECT_EQ(read.generations[1].digest, "two");
  EXPECT_EQ(read.generations[1].state, GenerationState::kActive);
  EXPECT_EQ(read.generations[1].ranges,
            (std::vector<RowRange>{{1, 5, 1 << 30}, {14, 0, uint64_t{1} << 40}}));
  EXPECT_EQ(read.state, DescribedState::kDraining);
  EXPECT_EQ(read.shard, (Shard{3, 300}));
  EXPECT_EQ(read.max_rows_per_request, uint64_t{1} << 33);
  EXPECT_EQ(read.features, (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(read.verified_passes, 2u);
  EXPECT_EQ(read.verified_rows, 9u);
  EXPECT_EQ(read.failure, "disk");
}

TEST(Description, AMessageThatComesTwiceIsMergedAndUnknownFieldsAreSkipped) {
  v1::DescribeResponse first, second;
  first.mutable_geometry()->set_heads(8);
  first.mutable_token_map()->set_sha256("hash");
  second.mutable_geometry()->set_max_ngram(4);
  // Field 1000 of each wire type: 1, eight bytes, "ab", four bytes.
  const std::string unknown =
      "\xc0\x3e\x01\xc1\x3e"
      "12345678"
      "\xc2\x3e\x02"
      "ab"
      "\xc5\x3e"
      "1234";
  ASSERT_OK_AND_ASSIGN(
      const Description read,
      DecodeDescription(first.SerializeAsString() + unknown + second.SerializeAsString()));
  v1::Geometry merged;
  ASSERT_TRUE(merged.ParseFromString(read.geometry));
  EXPECT_EQ(merged.heads(), 8u);
  EXPECT_EQ(merged.max_ngram(), 4u);
  EXPECT_THAT(DecodeTokenMapHash(*read.token_map), IsOkAndHolds("hash"));
}

// However it is cut off it is no description, or one of fewer fields; never more.
TEST(Description, CutOffWithinAFieldIsMalformed) {
  const std::string bytes = FullDescription().SerializeAsString();
  size_t refused = 0;
  for (size_t size = 0; size < bytes.size(); ++size) {
    v1::DescribeResponse message;
    const bool whole = message.ParseFromString(bytes.substr(0, size));
    const auto read = DecodeDescription(bytes.substr(0, size));
    EXPECT_EQ(read.ok(), whole) << size;
    if (!read.ok()) ++refused;
  }
  EXPECT_GT(refused, bytes.size() / 2);
  EXPECT_THAT(DecodeDescription("no"), StatusIs(kInvalid, "DescribeResponse: field"));
}

TEST(Description, StatesHaveNames) {
  EXPECT_EQ(DescribedStateName(DescribedState::kServing), "SERVING");
  EXPECT_EQ(DescribedStateName(static_cast<DescribedState>(9)), "9");
}

TEST(Description, AsksForTheTokenMapAsProtobufDoes) {
  v1::DescribeRequest request;
  EXPECT_EQ(EncodeDescribeRequest(false), request.SerializeAsString());
  request.set_include_token_map(true);
  EXPECT_EQ(EncodeDescribeRequest(true), request.SerializeAsString());
}

}  // namespace
}  // namespace engram

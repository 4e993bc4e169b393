// Messages as the first version of the protocol wrote them (tests/proto/golden/wire-v1: bytes, and
// beside them what they say) mean today what they meant then, and today's are written as they were.
#include <gmock/gmock.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engram/v1/engram.pb.h"
#include "proto/base/file.h"
#include "proto/description.h"
#include "proto/wire.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

std::string Fixture(const std::string& name) {
  return ReadFile(absl::StrCat("tests/proto/golden/wire-v1/", name, ".bin"), 1 << 20).value();
}

// 0, 1, ... 31; 255, 254, ... 224.
std::string Bytes(bool falling) {
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += static_cast<char>(falling ? 255 - i : i);
  return bytes;
}

Sha256 FixtureDigest() {
  Sha256 digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(i);
  return digest;
}

StreamRequest DecodeRequest(const std::string& bytes) {
  google::protobuf::io::ArrayInputStream input(bytes.data(), static_cast<int>(bytes.size()));
  StreamRequest request;
  EXPECT_THAT(DecodeStreamRequest(&input, 100, request), IsOk());
  return request;
}

StreamResponse DecodeResponse(const std::string& bytes, size_t rows_bytes) {
  StreamResponse response;
  EXPECT_THAT(DecodeResponseHeader(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                                   bytes.size(), response),
              IsOkAndHolds(bytes.size() - rows_bytes));
  EXPECT_EQ(response.rows_bytes, rows_bytes);
  return response;
}

template <typename Message>
Message Parse(const std::string& name) {
  Message message;
  EXPECT_TRUE(message.ParseFromString(Fixture(name))) << name;
  EXPECT_EQ(message.GetReflection()->GetUnknownFields(message).field_count(), 0) << name;
  return message;
}

std::string RequestHeader(uint64_t id, uint32_t layer, WirePriority priority, uint64_t budget_us,
                          uint32_t flags, uint64_t rows, bool wide) {
  uint8_t header[kMaxRequestHeader];
  const size_t size = EncodeRequestHeader(id, FixtureDigest(), layer, priority, budget_us, flags,
                                          rows, wide, header);
  return {reinterpret_cast<const char*>(header), size};
}

TEST(WireFixtures, Gather) {
  const std::string bytes = Fixture("gather");
  const StreamRequest request = DecodeRequest(bytes);
  EXPECT_EQ(request.request_id, uint64_t{1} << 40);
  EXPECT_EQ(request.kind, RequestKind::kGather);
  EXPECT_EQ(request.digest, Bytes(false));
  EXPECT_EQ(request.layer, 14u);
  EXPECT_EQ(request.priority, WirePriority::kPrefill);
  EXPECT_EQ(request.budget_us, 5000u);
  EXPECT_EQ(request.flags, kFlagChecksums);
  EXPECT_THAT(request.rows, ElementsAre(7, 0, 0xFFFFFFFF));
  EXPECT_EQ(RequestHeader(uint64_t{1} << 40, 14, WirePriority::kPrefill, 5000, 1, 3, false) +
                std::string("\7\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF", 12),
            bytes);
}

TEST(WireFixtures, GatherOfWideRows) {
  const std::string bytes = Fixture("gather-wide");
  const StreamRequest request = DecodeRequest(bytes);
  EXPECT_EQ(request.request_id, 2u);
  EXPECT_EQ(request.layer, 1u);
  EXPECT_EQ(request.priority, WirePriority::kDecode);
  EXPECT_EQ(request.budget_us, 1u);
  EXPECT_EQ(request.flags, 0u);
  EXPECT_THAT(request.rows, IsEmpty());
  EXPECT_THAT(request.wide_rows, ElementsAre(uint64_t{1} << 33, ~uint64_t{0}));
  EXPECT_EQ(RequestHeader(2, 1, WirePriority::kDecode, 1, 0, 2, true),
            bytes.substr(0, bytes.size() - 16));
}

TEST(WireFixtures, Cancel) {
  const StreamRequest request = DecodeRequest(Fixture("cancel"));
  EXPECT_EQ(request.request_id, 77u);
  EXPECT_EQ(request.kind, RequestKind::kCancel);
  EXPECT_EQ(EncodeCancel(77), Fixture("cancel"));
}

TEST(WireFixtures, Answer) {
  const std::string bytes = Fixture("answer");
  const StreamResponse response = DecodeResponse(bytes, 8);
  EXPECT_EQ(response.request_id, 77u);
  EXPECT_EQ(response.kind, ResponseKind::kAnswer);
  EXPECT_EQ(response.code, 0u);
  EXPECT_EQ(response.piece, 3u);
  EXPECT_TRUE(response.last);
  EXPECT_THAT(response.failures, ElementsAre(Pair(5, 15)));
  EXPECT_THAT(response.checksums, ElementsAre(1, 0xFFFFFFFF));
  EXPECT_EQ(bytes.substr(bytes.size() - 8), "rowsrows");
  const std::pair<uint32_t, uint32_t> failures[] = {{5, 15}};
  const uint32_t checksums[] = {1, 0xFFFFFFFF};
  uint8_t header[kMaxAnswerHeader + kMaxFailureBytes + sizeof(checksums)];
  const size_t size = EncodeAnswerHeader(77, 3, true, failures, checksums, 8, header);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(header), size) + "rowsrows", bytes);
}

TEST(WireFixtures, ErrorAndDrain) {
  const StreamResponse error = DecodeResponse(Fixture("error"), 0);
  EXPECT_EQ(error.request_id, 9u);
  EXPECT_EQ(error.kind, ResponseKind::kAnswer);
  EXPECT_EQ(error.code, 5u);
  EXPECT_EQ(error.message, "no layer 3");
  EXPECT_TRUE(error.last);
  EXPECT_EQ(DecodeResponse(Fixture("draining"), 0).kind, ResponseKind::kDraining);
  EXPECT_EQ(EncodeNotice(ResponseKind::kDraining), Fixture("draining"));
}

TEST(WireFixtures, Description) {
  EXPECT_EQ(EncodeDescribeRequest(true), Fixture("describe"));
  ASSERT_OK_AND_ASSIGN(const Description read, DecodeDescription(Fixture("description")));
  EXPECT_EQ(read.server_version, "0.1.0");
  EXPECT_EQ(read.model, "fixture");
  EXPECT_EQ(read.state, DescribedState::kServing);
  EXPECT_EQ(read.shard, (Shard{1, 2}));
  EXPECT_EQ(read.max_rows_per_request, 65536u);
  EXPECT_EQ(read.verified_passes, 3u);
  EXPECT_EQ(read.verified_rows, 1000u);
  EXPECT_EQ(read.failure, "why");
  ASSERT_EQ(read.generations.size(), 2u);
  EXPECT_EQ(read.generations[0].digest, Bytes(false));
  EXPECT_EQ(read.generations[0].state, GenerationState::kActive);
  EXPECT_EQ(read.generations[0].base, "");
  EXPECT_THAT(read.generations[0].ranges,
              ElementsAre(RowRange{1, 0, 100}, RowRange{3, 7, uint64_t{1} << 33}));
  EXPECT_EQ(read.generations[1].digest, Bytes(true));
  EXPECT_EQ(read.generations[1].state, GenerationState::kPrepared);
  EXPECT_EQ(read.generations[1].base, Bytes(false));
  EXPECT_EQ(read.generations[1].changed_rows, 12u);

  ASSERT_OK_AND_ASSIGN(const Geometry geometry, DecodeGeometry(read.geometry));
  EXPECT_THAT(geometry.params().layer_ids, ElementsAre(1, 3));
  EXPECT_EQ(geometry.params().max_ngram, 3u);
  EXPECT_EQ(geometry.params().heads, 2u);
  EXPECT_THAT(geometry.params().bucket_floors, ElementsAre(50, 60));
  EXPECT_EQ(geometry.params().seed, 0u);
  EXPECT_EQ(geometry.params().compressed_vocab, 3u);
  EXPECT_EQ(geometry.params().pad_token, 2u);
  EXPECT_EQ(geometry.layers()[1].rows, 306u);
  EXPECT_THAT(DecodeRowLayout(read.row_layout), IsOkAndHolds(PackedFp8Layout(64)));
  ASSERT_TRUE(read.token_map.has_value());
  ASSERT_OK_AND_ASSIGN(const TokenMap map, DecodeTokenMap(*read.token_map));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 1, 2, 0));
}

TEST(WireFixtures, UnaryCalls) {
  const auto gather = Parse<v1::GatherRequest>("unary-gather");
  EXPECT_EQ(gather.digest(), Bytes(false));
  EXPECT_EQ(gather.layer(), 14u);
  EXPECT_EQ(gather.flags(), 1u);
  EXPECT_THAT(gather.rows(), ElementsAre(7));
  EXPECT_THAT(gather.wide_rows(), ElementsAre(9));
  const auto rows = Parse<v1::GatherResponse>("unary-answer");
  EXPECT_EQ(rows.rows(), "rowsrows");
  EXPECT_THAT(rows.checksums(), ElementsAre(1));
  const auto publish = Parse<v1::PublishRequest>("publish");
  EXPECT_EQ(publish.target(), Bytes(false));
  EXPECT_EQ(publish.header(), "head");
  EXPECT_EQ(publish.first(), 5u);
  EXPECT_EQ(publish.records(), "records");
  EXPECT_TRUE(publish.last());
  EXPECT_TRUE(Parse<v1::PublishResponse>("published").prepared());
  EXPECT_EQ(Parse<v1::ActivateRequest>("activate").digest(), Bytes(false));
  EXPECT_EQ(Parse<v1::RetireRequest>("retire").digest(), Bytes(false));
  EXPECT_TRUE(Parse<v1::DescribeRequest>("describe").include_token_map());
}

}  // namespace
}  // namespace engram

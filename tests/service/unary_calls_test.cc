#include "service/unary_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/description.h"
#include "tests/service/test_server.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

v1::GatherRequest Request(const TestServer& server, uint32_t rows) {
  const v1::GatherStreamRequest like = server.Request(1, rows);
  v1::GatherRequest request;
  request.set_digest(like.digest());
  request.set_layer(like.layer());
  *request.mutable_rows() = like.rows();
  return request;
}

// The status of a unary gather, as codes of ours.
absl::Status Gather(TestServer& server, const v1::GatherRequest& request,
                    v1::GatherResponse& response) {
  const grpc::Status status = server.stub().Gather(TestContext().get(), request, &response);
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

v1::DescribeResponse Describe(TestServer& server, bool with_token_map) {
  v1::DescribeRequest request;
  request.set_include_token_map(with_token_map);
  v1::DescribeResponse response;
  EXPECT_TRUE(server.stub().Describe(TestContext().get(), request, &response).ok());
  return response;
}

TEST(Gather, AnswersInRequestOrder) {
  TestServer server;
  v1::GatherRequest request = Request(server, 0);
  for (const uint32_t row : {9u, kNoRow32, 3u, 9u}) request.add_rows(row);
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  v1::GatherResponse response;
  ASSERT_THAT(Gather(server, request, response), IsOk());
  EXPECT_EQ(response.rows(), ExpectedRows({9, kNoRow64, 3, 9}));
  ASSERT_EQ(response.checksums_size(), 4);
  EXPECT_EQ(response.checksums(2), Crc32c(ExpectedRows({3}).data(), kRowBytes));
}

// As many rows as it takes reach a client with gRPC's default limit of 4 MB, checksums included.
TEST(Gather, ItsMostRowsReachADefaultClient) {
  TestServer server;
  const auto most = static_cast<uint32_t>(MaxUnaryRows(PackedFp8Layout(256)));
  v1::GatherResponse response;
  v1::GatherRequest request = Request(server, most);
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  ASSERT_THAT(Gather(server, request, response), IsOk());
  EXPECT_EQ(response.rows(), FirstRows(most));
  EXPECT_THAT(Gather(server, Request(server, most + 1), response),
              StatusIs(absl::StatusCode::kInvalidArgument, std::to_string(most)));
}

TEST(Gather, EachErrorHasItsCode) {
  using absl::StatusCode;
  TestServer server;
  v1::GatherResponse response;
  const auto gather = [&](auto change) {
    v1::GatherRequest request = Request(server, 1);
    change(request);
    return Gather(server, request, response);
  };
  EXPECT_THAT(gather([](auto& r) { r.set_digest("x"); }),
              StatusIs(StatusCode::kInvalidArgument, "expected 32"));
  EXPECT_THAT(gather([](auto& r) { r.set_digest(std::string(32, 'x')); }),
              StatusIs(StatusCode::kFailedPrecondition, "abababab"));
  EXPECT_THAT(gather([](auto& r) { r.set_layer(2); }), StatusIs(StatusCode::kNotFound, ""));
  EXPECT_THAT(gather([](auto& r) { r.set_flags(2); }), StatusIs(StatusCode::kUnimplemented, ""));
  EXPECT_THAT(gather([](auto& r) { r.add_wide_rows(1); }),
              StatusIs(StatusCode::kInvalidArgument, "`rows`"));
  EXPECT_THAT(gather([](auto& r) { r.add_rows(kHeldRows); }),
              StatusIs(StatusCode::kFailedPrecondition, "90000"));
  server.store().FailWith(absl::DataLossError("bad block"));
  EXPECT_THAT(gather([](auto&) {}), StatusIs(StatusCode::kDataLoss, "bad block"));
  server.server().BeginDrain();
  EXPECT_THAT(gather([](auto&) {}), StatusIs(StatusCode::kUnavailable, "draining"));
}

TEST(Describe, SaysWhatIsServed) {
  TestServer server;
  const v1::DescribeResponse response = Describe(server, false);
  EXPECT_EQ(response.model(), "test-model");
  ASSERT_OK_AND_ASSIGN(const Description read, DecodeDescription(response.SerializeAsString()));
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, DecodeGeometry(read.geometry));
  EXPECT_EQ(geometry.params(), server.table().geometry.params());
  ASSERT_OK_AND_ASSIGN(const RowLayout layout, DecodeRowLayout(read.row_layout));
  EXPECT_EQ(layout.row_bytes(), kRowBytes);
  ASSERT_EQ(response.generations_size(), 1);
  EXPECT_EQ(response.generations(0).digest(), std::string(32, '\xAB'));
  EXPECT_EQ(response.generations(0).state(), v1::GENERATION_STATE_ACTIVE);
  EXPECT_EQ(read.generations[0].ranges, server.store().ranges());
  EXPECT_EQ(response.shard_count(), 2u);
  EXPECT_EQ(response.limits().max_rows_per_request(), 65536u);
  EXPECT_EQ(response.limits().max_requests_in_flight(), 1024u);
  EXPECT_THAT(response.features(),
              testing::ElementsAre(v1::FEATURE_ROW_CHECKSUMS, v1::FEATURE_CHANGE_NOTICES));
}

TEST(Describe, TheTokenMapComesWhereAsked) {
  TestServer server;
  const v1::DescribeResponse without = Describe(server, false);
  EXPECT_EQ(without.token_map().tokens(), 4u);
  EXPECT_TRUE(without.token_map().compressed_ids().empty());
  ASSERT_OK_AND_ASSIGN(const TokenMap map,
                       DecodeTokenMap(Describe(server, true).token_map().SerializeAsString()));
  EXPECT_EQ(map.sha256(), server.table().token_map->sha256());
}

TEST(Describe, TellsTheState) {
  TestServer server;
  EXPECT_EQ(Describe(server, false).state(), v1::SERVER_STATE_SERVING);
  server.server().BeginDrain();
  EXPECT_EQ(Describe(server, false).state(), v1::SERVER_STATE_DRAINING);
}

}  // namespace
}  // namespace engram

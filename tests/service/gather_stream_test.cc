// One stream's answers: rows, pieces, errors. How requests share a stream: stream_sharing_test.cc.
#include "service/gather_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/service/test_server.h"

namespace engram {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

MATCHER_P2(HasError, code, text, "") {
  *result_listener << "code " << arg.code << ": " << arg.message;
  return arg.code == static_cast<uint32_t>(code) && arg.rows.empty() &&
         testing::ExplainMatchResult(text, arg.message, result_listener);
}

// The server's answer to one request, and proof that the stream lives on after it.
Answer AnswerTo(TestServer& server, const v1::GatherStreamRequest& request) {
  TestStream stream(server.stub());
  stream.Send(request);
  Answer answer = stream.ReceiveAnswer(request.request_id());
  stream.Send(server.Request(99, 3));
  EXPECT_EQ(stream.ReceiveAnswer(99).rows, FirstRows(3));
  return answer;
}

TEST(GatherStream, RowsComeInPiecesWithChecksums) {
  TestServer server;
  TestStream stream(server.stub());
  v1::GatherStreamRequest request = server.Request(5, 0);
  std::vector<uint64_t> rows;
  std::vector<uint32_t> checksums;
  for (uint32_t i = 0; i < 3000; ++i) {
    const bool none = i % 7 == 0;
    rows.push_back(none ? kNoRow64 : (i * 7919u) % kHeldRows);
    request.add_rows(none ? kNoRow32 : static_cast<uint32_t>(rows.back()));
    checksums.push_back(Crc32c(ExpectedRows({rows.back()}).data(), kRowBytes));
  }
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  stream.Send(request);
  const Answer answer = stream.ReceiveAnswer(5);
  EXPECT_EQ(answer.code, 0u);
  EXPECT_EQ(answer.pieces, 4u);
  EXPECT_EQ(answer.rows, ExpectedRows(rows));
  EXPECT_EQ(answer.checksums, checksums);
}

// The client is told to go elsewhere, and whatever it still asks for is DATA_LOSS.
TEST(GatherStream, AStoreThatHasFailedAnswersDataLoss) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, 3));
  EXPECT_EQ(stream.ReceiveAnswer(1).rows, FirstRows(3));
  server.store().state().Fail(absl::DataLossError("the file has shrunk"));
  EXPECT_EQ(stream.Receive().kind(), v1::STREAM_RESPONSE_KIND_DRAINING);
  stream.Send(server.Request(2, 3));
  EXPECT_THAT(stream.ReceiveAnswer(2),
              HasError(StatusCode::kDataLoss, HasSubstr("the file has shrunk")));
  v1::GatherRequest unary;
  unary.set_digest(server.table().digest.data(), server.table().digest.size());
  unary.set_layer(kLayer);
  unary.add_rows(1);
  v1::GatherResponse response;
  EXPECT_EQ(server.stub().Gather(TestContext().get(), unary, &response).error_code(),
            grpc::StatusCode::DATA_LOSS);
}

TEST(GatherStream, ChecksumsComeOnlyWhereAsked) {
  TestServer server;
  EXPECT_TRUE(AnswerTo(server, server.Request(1, 10)).checksums.empty());
}

TEST(GatherStream, NoRowsAreOneEmptyAnswer) {
  TestServer server;
  const Answer answer = AnswerTo(server, server.Request(1, 0));
  EXPECT_EQ(answer.code, 0u);
  EXPECT_EQ(answer.pieces, 1u);
}

TEST(GatherStream, UnknownKindsAndFlagsAreUnimplemented) {
  TestServer server;
  v1::GatherStreamRequest request = server.Request(1, 1);
  request.set_kind(v1::STREAM_REQUEST_KIND_UNSPECIFIED);
  EXPECT_THAT(AnswerTo(server, request), HasError(StatusCode::kUnimplemented, HasSubstr("kind 0")));
  request.set_kind(static_cast<v1::StreamRequestKind>(77));
  EXPECT_THAT(AnswerTo(server, request),
              HasError(StatusCode::kUnimplemented, HasSubstr("kind 77")));
  request = server.Request(1, 1);
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS | 4);
  EXPECT_THAT(AnswerTo(server, request), HasError(StatusCode::kUnimplemented, HasSubstr("flags")));
}

TEST(GatherStream, AnotherDigestIsRefusedAndBothAreNamed) {
  TestServer server;
  v1::GatherStreamRequest request = server.Request(1, 1);
  request.set_digest(std::string(31, 'x'));
  EXPECT_THAT(AnswerTo(server, request),
              HasError(StatusCode::kInvalidArgument, HasSubstr("31 bytes")));
  request.set_digest(std::string(32, '\x01'));
  std::string ours, theirs;
  for (int i = 0; i < 32; ++i) {
    ours += "ab";
    theirs += "01";
  }
  EXPECT_THAT(AnswerTo(server, request),
              HasError(StatusCode::kFailedPrecondition, AllOf(HasSubstr(ours), HasSubstr(theirs))));
}

TEST(GatherStream, WrongLayersAndRowsAreNamed) {
  TestServer server;
  v1::GatherStreamRequest request = server.Request(1, 1);
  request.set_layer(2);
  EXPECT_THAT(AnswerTo(server, request), HasError(StatusCode::kNotFound, HasSubstr("2")));
  request = server.Request(1, 1);
  request.add_rows(200000);
  EXPECT_THAT(AnswerTo(server, request), HasError(StatusCode::kOutOfRange, HasSubstr("200000")));
  request = server.Request(1, 1);
  request.add_rows(kHeldRows);
  EXPECT_THAT(AnswerTo(server, request),
              HasError(StatusCode::kFailedPrecondition, HasSubstr("position 1")));
}

TEST(GatherStream, RequestIdZeroIsRefused) {
  TestServer server;
  EXPECT_THAT(AnswerTo(server, server.Request(0, 1)),
              HasError(StatusCode::kInvalidArgument, HasSubstr("request id 0")));
}

TEST(GatherStream, TooManyRowsNameTheLimit) {
  ServerOptions options = TestOptions();
  options.max_rows_per_request = 100;
  TestServer server(options);
  EXPECT_EQ(AnswerTo(server, server.Request(1, 100)).rows, FirstRows(100));
  EXPECT_THAT(AnswerTo(server, server.Request(1, 101)),
              HasError(StatusCode::kInvalidArgument, HasSubstr("100 rows")));
}

TEST(GatherStream, WideIdsAreForWideLayersAlone) {
  TestServer narrow;
  v1::GatherStreamRequest request = narrow.Request(1, 0);
  request.add_wide_rows(1);
  EXPECT_THAT(AnswerTo(narrow, request),
              HasError(StatusCode::kInvalidArgument, HasSubstr("`rows`")));

  constexpr uint64_t kRows = uint64_t{1} << 33;
  TestServer wide(TestOptions(), MakeTable(kRows, kRows));
  TestStream stream(wide.stub());
  stream.Send(wide.Request(1, 1));
  EXPECT_THAT(stream.ReceiveAnswer(1),
              HasError(StatusCode::kInvalidArgument, HasSubstr("`wide_rows`")));
  request = wide.Request(2, 0);
  for (const uint64_t row : {kRows - 1, kNoRow64, uint64_t{kNoRow32}}) request.add_wide_rows(row);
  stream.Send(request);
  EXPECT_EQ(stream.ReceiveAnswer(2).rows, ExpectedRows({kRows - 1, kNoRow64, kNoRow32}));
}

TEST(GatherStream, UndecodableMessagesKeepTheirIdWhereItWasRead) {
  TestServer server;
  v1::GatherStreamRequest cut = server.Request(7, 2);
  // Packed ids of 3 bytes, behind everything else.
  cut.GetReflection()->MutableUnknownFields(&cut)->AddLengthDelimited(8, "abc");
  EXPECT_THAT(AnswerTo(server, cut), HasError(StatusCode::kInvalidArgument, HasSubstr("field 8")));
  v1::GatherStreamRequest anonymous;
  anonymous.GetReflection()->MutableUnknownFields(&anonymous)->AddLengthDelimited(1, "x");
  EXPECT_THAT(AnswerTo(server, anonymous),
              HasError(StatusCode::kInvalidArgument, HasSubstr("field 1")));
}

TEST(GatherStream, UnknownFieldsAreSkipped) {
  TestServer server;
  v1::GatherStreamRequest request = server.Request(7, 2);
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(500, "later");
  EXPECT_EQ(AnswerTo(server, request).rows, FirstRows(2));
}

TEST(GatherStream, AStoresFailureIsTheRequestsOwn) {
  TestServer server;
  TestStream stream(server.stub());
  server.store().FailWith(absl::DataLossError("block 3 is bad"));
  stream.Send(server.Request(1, 2));
  EXPECT_THAT(stream.ReceiveAnswer(1), HasError(StatusCode::kDataLoss, HasSubstr("block 3")));
  server.store().FailWith(absl::OkStatus());
  stream.Send(server.Request(2, 2));
  EXPECT_EQ(stream.ReceiveAnswer(2).rows, FirstRows(2));
}

TEST(GatherStream, EverythingIsAnsweredAfterTheClientHasClosedItsSide) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, kManyRows));
  stream.WritesDone();
  EXPECT_EQ(stream.ReceiveAnswer(1).rows, FirstRows(kManyRows));
  EXPECT_TRUE(stream.AtEnd());
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(GatherStream, ABrokenClientLeavesTheServerServing) {
  TestServer server;
  TestStream broken(server.stub());
  broken.Send(server.Request(1, kManyRows));
  EXPECT_TRUE(server.store().WaitForChecks(1));
  broken.Break();
  EXPECT_FALSE(broken.Finish().ok());
  EXPECT_EQ(AnswerTo(server, server.Request(1, 5)).rows, FirstRows(5));
}

// Unread error answers pile up only so far; then the server stops reading until they are taken.
TEST(GatherStream, AFloodOfBadRequestsIsAnsweredToTheLast) {
  constexpr uint64_t kRequests = 20000;
  ServerOptions options = TestOptions();
  options.max_requests_in_flight = 8;
  TestServer server(options);
  TestStream stream(server.stub());
  v1::GatherStreamRequest request = server.Request(1, 0);
  request.set_digest(std::string(32, '\x01'));
  std::thread sender([&] {
    for (uint64_t id = 1; id <= kRequests; ++id) {
      request.set_request_id(id);
      if (!stream.Send(request)) return;
    }
    stream.WritesDone();
  });
  for (uint64_t id = 1; id <= kRequests && !testing::Test::HasFailure(); ++id) {
    EXPECT_THAT(stream.ReceiveAnswer(id), HasError(StatusCode::kFailedPrecondition, HasSubstr("")));
  }
  sender.join();
  EXPECT_TRUE(stream.AtEnd());
}

}  // namespace
}  // namespace engram

// Several requests on one stream: priorities, interleaving, limits, cancel, budget, drain. A client
// that does not read keeps a large answer unfinished: nothing here depends on timing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/service/test_server.h"

namespace engram {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

uint32_t Number(StatusCode code) { return static_cast<uint32_t>(code); }

// What a stream brought: every request's answer, and the order of the messages by request id.
struct Received {
  std::map<uint64_t, Answer> answers;
  std::vector<uint64_t> order;
};

// Receives until each of `requests` requests has its last answer.
Received ReceiveAll(TestStream& stream, size_t requests) {
  Received received;
  for (size_t done = 0; done < requests && !testing::Test::HasFailure();) {
    const v1::GatherStreamResponse response = stream.Receive();
    received.order.push_back(response.request_id());
    TestStream::Add(response, received.answers[response.request_id()]);
    if (response.last()) ++done;
  }
  return received;
}

TEST(StreamSharing, ADecodeRequestPassesALargePrefill) {
  TestServer server;
  TestStream stream(server.stub());
  server.store().Close();
  stream.Send(server.Request(1, kManyRows, v1::PRIORITY_PREFILL));
  ASSERT_TRUE(server.store().WaitUntilBlocked());
  stream.Send(server.Request(2, 16, v1::PRIORITY_DECODE));
  server.store().Open();
  const Received received = ReceiveAll(stream, 2);
  EXPECT_EQ(received.answers.at(1).rows, FirstRows(kManyRows));
  EXPECT_EQ(received.answers.at(2).rows, FirstRows(16));
  const auto place =
      std::find(received.order.begin(), received.order.end(), 2) - received.order.begin();
  EXPECT_LT(place, 8) << "of " << received.order.size();
}

TEST(StreamSharing, EqualRequestsAreAnsweredInTheirOrder) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, kManyRows, v1::PRIORITY_PREFILL));
  stream.Send(server.Request(2, kManyRows, v1::PRIORITY_PREFILL));
  ASSERT_TRUE(server.store().WaitForChecks(2));
  const Received received = ReceiveAll(stream, 2);
  EXPECT_EQ(received.answers.at(1).rows, FirstRows(kManyRows));
  EXPECT_EQ(received.answers.at(2).rows, received.answers.at(1).rows);
  EXPECT_GT(received.order.size(), 4u);
  EXPECT_TRUE(std::is_sorted(received.order.begin(), received.order.end()));
}

TEST(StreamSharing, MoreRequestsThanAllowedAreRefused) {
  ServerOptions options = TestOptions();
  options.max_requests_in_flight = 2;
  TestServer server(options);
  TestStream stream(server.stub());
  for (const uint64_t id : {1, 2, 3}) stream.Send(server.Request(id, kManyRows));
  Received received = ReceiveAll(stream, 3);
  EXPECT_EQ(received.answers[1].rows, FirstRows(kManyRows));
  EXPECT_EQ(received.answers[2].code, 0u);
  EXPECT_EQ(received.answers[3].code, Number(StatusCode::kResourceExhausted));
  // What is refused is told when to come again: after what requests have taken so far.
  EXPECT_EQ(received.answers[3].retry_after_us, 0u);
  for (const uint64_t id : {4, 5, 6}) stream.Send(server.Request(id, kManyRows));
  received = ReceiveAll(stream, 3);
  EXPECT_EQ(received.answers[6].code, Number(StatusCode::kResourceExhausted));
  EXPECT_GT(received.answers[6].retry_after_us, 0u);
  EXPECT_LT(received.answers[6].retry_after_us, 60'000'000u);
  stream.Send(server.Request(7, 1));
  EXPECT_EQ(stream.ReceiveAnswer(7).code, 0u);
}

// The id's one last answer belongs to the first use: the second is told under no id.
TEST(StreamSharing, AnIdInFlightIsNotTakenAgain) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, kManyRows));
  stream.Send(server.Request(1, 1));
  Received received = ReceiveAll(stream, 2);
  EXPECT_EQ(received.answers[1].rows, FirstRows(kManyRows));
  EXPECT_EQ(received.answers[0].code, Number(StatusCode::kInvalidArgument));
  EXPECT_THAT(received.answers[0].message, HasSubstr("request id 1"));
}

TEST(StreamSharing, ACancelledRequestHasOneLastAnswer) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, kManyRows, v1::PRIORITY_PREFILL));
  stream.Send(server.Request(2, kManyRows, v1::PRIORITY_PREFILL));
  stream.Cancel(1);
  stream.Cancel(2);
  stream.Cancel(77);  // unknown, or answered already: no answer
  stream.Send(server.Request(3, 4));
  ASSERT_TRUE(server.store().WaitForChecks(3));
  Received received = ReceiveAll(stream, 3);
  EXPECT_EQ(received.answers[1].code, Number(StatusCode::kCancelled));
  EXPECT_LT(received.answers[1].rows.size(), size_t{kManyRows} * kRowBytes);
  EXPECT_EQ(received.answers[2].code, Number(StatusCode::kCancelled));
  EXPECT_EQ(received.answers[3].rows, FirstRows(4));
  stream.Cancel(3);
  stream.Send(server.Request(4, 1));
  EXPECT_EQ(stream.ReceiveAnswer(4).code, 0u);
}

TEST(StreamSharing, ABudgetThatIsOverEndsTheRequest) {
  constexpr absl::Duration kBudget = absl::Milliseconds(300);
  TestServer server;
  TestStream stream(server.stub());
  server.store().Close();
  v1::GatherStreamRequest request = server.Request(1, 3000);
  request.set_budget_us(static_cast<uint64_t>(absl::ToInt64Microseconds(kBudget)));
  stream.Send(request);
  ASSERT_TRUE(server.store().WaitUntilBlocked());
  absl::SleepFor(kBudget);  // The budget began before: it is over now.
  server.store().Open();
  const Answer answer = stream.ReceiveAnswer(1);
  EXPECT_EQ(answer.code, Number(StatusCode::kDeadlineExceeded));
  EXPECT_EQ(answer.pieces, 2u);
  request.set_request_id(2);
  request.set_budget_us(~uint64_t{0});
  stream.Send(request);
  EXPECT_EQ(stream.ReceiveAnswer(2).rows, FirstRows(3000));
}

TEST(StreamSharing, ADrainingServerAnswersWhatItTookAndRefusesTheRest) {
  TestServer server;
  TestStream stream(server.stub());
  stream.Send(server.Request(1, kManyRows));
  ASSERT_TRUE(server.store().WaitForChecks(1));
  server.server().BeginDrain();
  Answer first;
  bool noticed = false, last = false;
  while (!last && !testing::Test::HasFailure()) {
    const v1::GatherStreamResponse response = stream.Receive();
    if (response.kind() == v1::STREAM_RESPONSE_KIND_DRAINING) {
      EXPECT_EQ(response.request_id(), 0u);
      noticed = true;
      continue;
    }
    TestStream::Add(response, first);
    last = response.last();
  }
  EXPECT_TRUE(noticed);
  EXPECT_EQ(first.rows, FirstRows(kManyRows));
  stream.Send(server.Request(2, 1));
  EXPECT_EQ(stream.ReceiveAnswer(2).code, Number(StatusCode::kUnavailable));

  TestStream late(server.stub());
  EXPECT_EQ(late.Receive().kind(), v1::STREAM_RESPONSE_KIND_DRAINING);
  late.Send(server.Request(1, 1));
  EXPECT_EQ(late.ReceiveAnswer(1).code, Number(StatusCode::kUnavailable));

  server.server().Stop(absl::ZeroDuration(), absl::Seconds(20));
  EXPECT_TRUE(stream.AtEnd());
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace engram

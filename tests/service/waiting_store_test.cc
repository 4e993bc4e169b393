// A server whose store has to wait for a disk: what waits holds up nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/service/test_server.h"

namespace engram {
namespace {

constexpr uint32_t kWaits = 10'000;  // rows from here on wait

class WaitingStore : public ::testing::Test {
 protected:
  static TestTable WaitingTable() {
    TestTable table = MakeTable();
    table.store->WaitFrom(kWaits);
    return table;
  }
  // Rows first, first + 1, ...
  v1::GatherStreamRequest From(uint64_t id, uint32_t first, uint32_t rows,
                               v1::Priority priority = v1::PRIORITY_DECODE) {
    v1::GatherStreamRequest request = server_.Request(id, 0, priority);
    for (uint32_t i = 0; i < rows; ++i) request.add_rows(first + i);
    return request;
  }
  static std::string RowsFrom(uint64_t first, uint32_t count) {
    std::vector<uint64_t> rows;
    for (uint32_t i = 0; i < count; ++i) rows.push_back(first + i);
    return ExpectedRows(rows);
  }

  TestServer server_{TestOptions(), WaitingTable()};
  FakeRowStore& store_ = server_.store();
};

TEST_F(WaitingStore, WhatWaitsHoldsUpNothingElse) {
  TestStream stream(server_.stub());
  stream.Send(From(1, kWaits, 20));
  stream.Send(From(2, kWaits + 100, 20, v1::PRIORITY_PREFILL));
  ASSERT_TRUE(store_.WaitForHeld(2));
  for (uint64_t id = 3; id < 10; ++id) {
    stream.Send(server_.Request(id, 3, id % 2 ? v1::PRIORITY_DECODE : v1::PRIORITY_PREFILL));
    EXPECT_EQ(stream.ReceiveAnswer(id).rows, FirstRows(3));
  }
  store_.Release();
  Answer answers[3];
  for (int i = 0; i < 2; ++i) {
    const v1::GatherStreamResponse response = stream.Receive();
    ASSERT_LT(response.request_id(), 3u);
    TestStream::Add(response, answers[response.request_id()]);
  }
  EXPECT_EQ(answers[1].rows, RowsFrom(kWaits, 20));
  EXPECT_EQ(answers[2].rows, RowsFrom(kWaits + 100, 20));
}

TEST_F(WaitingStore, LostRowsAreNamedByTheirPlaceInTheRequest) {
  store_.Lose(kWaits + 1);
  store_.Lose(kWaits + 2500);
  TestStream stream(server_.stub());
  v1::GatherStreamRequest request = From(1, kWaits, 3000);
  request.set_flags(v1::REQUEST_FLAG_CHECKSUMS);
  stream.Send(request);
  std::string rows;
  std::vector<std::pair<uint32_t, uint32_t>> failures;
  bool last = false;
  while (!last) {
    ASSERT_TRUE(store_.WaitForHeld(1));
    store_.Release();
    const v1::GatherStreamResponse response = stream.Receive();
    ASSERT_EQ(response.code(), 0u);
    EXPECT_EQ(response.checksums_size() * kRowBytes, response.rows().size());
    for (const v1::RowFailure& failure : response.failures()) {
      failures.emplace_back(failure.position(), failure.code());
    }
    rows += response.rows();
    last = response.last();
  }
  constexpr auto kDataLoss = static_cast<uint32_t>(absl::StatusCode::kDataLoss);
  EXPECT_THAT(failures,
              testing::ElementsAre(std::pair(1u, kDataLoss), std::pair(2500u, kDataLoss)));
  std::string expected = RowsFrom(kWaits, 3000);
  for (const size_t lost : {1, 2500})
    expected.replace(lost * kRowBytes, kRowBytes, kRowBytes, '\0');
  EXPECT_EQ(rows, expected);
}

TEST_F(WaitingStore, WhatWaitsCanBeCancelled) {
  TestStream stream(server_.stub());
  stream.Send(From(1, kWaits, 20));
  ASSERT_TRUE(store_.WaitForHeld(1));
  stream.Cancel(1);
  EXPECT_EQ(stream.ReceiveAnswer(1).code, static_cast<uint32_t>(absl::StatusCode::kCancelled));
  stream.Send(From(2, kWaits + 50, 20));
  ASSERT_TRUE(store_.WaitForHeld(2));
  store_.Release();
  EXPECT_EQ(stream.ReceiveAnswer(2).rows, RowsFrom(kWaits + 50, 20));
}

TEST_F(WaitingStore, AStoreThatFailsAsAWholeIsAnError) {
  TestStream stream(server_.stub());
  stream.Send(From(1, kWaits, 20));
  ASSERT_TRUE(store_.WaitForHeld(1));
  store_.FailWith(absl::UnavailableError("no disk"));
  store_.Release();
  const Answer answer = stream.ReceiveAnswer(1);
  EXPECT_EQ(answer.code, static_cast<uint32_t>(absl::StatusCode::kUnavailable));
  EXPECT_EQ(answer.message, "no disk");
}

TEST_F(WaitingStore, AStreamThatBreaksAndAServerThatStopsWaitForTheDisk) {
  {
    TestStream stream(server_.stub());
    stream.Send(From(1, kWaits, 20));
    ASSERT_TRUE(store_.WaitForHeld(1));
    stream.Break();
  }
  TestStream stream(server_.stub());
  stream.Send(From(1, kWaits, 20));
  ASSERT_TRUE(store_.WaitForHeld(2));
  std::thread stop([&] { server_.server().Stop(absl::ZeroDuration(), absl::Seconds(20)); });
  EXPECT_EQ(stream.Receive().kind(), v1::STREAM_RESPONSE_KIND_DRAINING);
  store_.Release();
  EXPECT_EQ(stream.ReceiveAnswer(1).rows, RowsFrom(kWaits, 20));
  EXPECT_TRUE(stream.AtEnd());
  stream.Finish();
  stop.join();
}

TEST_F(WaitingStore, AUnaryGatherWaitsAndFailsAsAWhole) {
  v1::GatherRequest request;
  request.set_digest(server_.table().digest.data(), server_.table().digest.size());
  request.set_layer(kLayer);
  request.add_rows(kWaits);
  request.add_rows(kWaits + 1);
  const auto gather = [&](v1::GatherResponse& response) {
    std::thread release([&] {
      EXPECT_TRUE(store_.WaitForHeld(1));
      store_.Release();
    });
    const grpc::Status status = server_.stub().Gather(TestContext().get(), request, &response);
    release.join();
    return status;
  };
  v1::GatherResponse response;
  EXPECT_TRUE(gather(response).ok());
  EXPECT_EQ(response.rows(), RowsFrom(kWaits, 2));
  store_.Lose(kWaits + 1);
  const grpc::Status status = gather(response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(status.error_message(),
              testing::HasSubstr("1 rows could not be read, the first at position 1"));
}

}  // namespace
}  // namespace engram

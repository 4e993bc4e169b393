#include "service/backlog.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "tests/service/test_server.h"

namespace engram {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uint64_t kMega = 1 << 20;
constexpr WirePriority kDecode = WirePriority::kDecode;
constexpr WirePriority kPrefill = WirePriority::kPrefill;

class BacklogTest : public ::testing::Test {
 protected:
  // The thread answers so many megabytes in 10 ms each, from now on.
  void Work(uint64_t megabytes) {
    for (uint64_t i = 0; i < megabytes; ++i) backlog_.OnAnswered(kMega, now_ += 10 * kMs);
  }
  int64_t RefuseMs(Backlog::Stream& stream, uint64_t megabytes, int64_t budget_ms,
                   WirePriority priority = kPrefill) {
    return stream.Refuse(priority, megabytes * kMega, budget_ms * kMs, now_) / kMs;
  }

  Backlog backlog_;
  Backlog::Stream stream_{backlog_};
  int64_t now_ = 1'000'000'000 * kMs;
};

TEST_F(BacklogTest, NothingIsRefusedBeforeAMeasure) {
  backlog_.OnIdle(now_);
  EXPECT_EQ(RefuseMs(stream_, 1000, 1), 0);
  Work(3);
  EXPECT_EQ(RefuseMs(stream_, 1000, 1), 0);
  Work(1);
  EXPECT_NE(RefuseMs(stream_, 1000, 1), 0);
}

TEST_F(BacklogTest, MeasuresOnlyWhatWasDoneInOneGo) {
  for (int i = 0; i < 10; ++i) {
    backlog_.OnIdle(now_);
    Work(3);
    now_ += 1000 * kMs;  // It waits.
  }
  EXPECT_EQ(RefuseMs(stream_, 1000, 1), 0);
  backlog_.OnIdle(now_);
  Work(4);  // 10 ms a megabyte
  stream_.Add(kPrefill, 10 * kMega);
  EXPECT_EQ(RefuseMs(stream_, 1, 130), 0);
  EXPECT_NE(RefuseMs(stream_, 1, 120), 0) << "an eighth of its time is to be left";
}

TEST_F(BacklogTest, AServerThatStoodStillHasMeasuredNothing) {
  backlog_.OnIdle(now_);
  Work(3);
  now_ += 251 * kMs;
  Work(4);
  EXPECT_EQ(RefuseMs(stream_, 1000, 1), 0);
  Work(1);
  EXPECT_EQ(RefuseMs(stream_, 1, 12), 0) << "10 ms a megabyte";
  EXPECT_NE(RefuseMs(stream_, 1, 11), 0);
}

TEST_F(BacklogTest, FollowsTheLastMeasuresAndForgetsThemInASecond) {
  backlog_.OnIdle(now_);
  Work(4);
  for (int i = 0; i < 4; ++i) backlog_.OnAnswered(kMega, now_ += 50 * kMs);
  EXPECT_EQ(RefuseMs(stream_, 1, 23), 0) << "20 ms a megabyte: a quarter of the way to 50";
  EXPECT_NE(RefuseMs(stream_, 1, 22), 0);
  now_ += 1000 * kMs;
  EXPECT_NE(RefuseMs(stream_, 1, 22), 0);
  now_ += 1;
  EXPECT_EQ(RefuseMs(stream_, 1, 22), 0);
  backlog_.OnIdle(now_);
  Work(4);
  EXPECT_EQ(RefuseMs(stream_, 1, 12), 0);
  EXPECT_NE(RefuseMs(stream_, 1, 11), 0);
}

TEST_F(BacklogTest, AClockThatIsSetBackIsNoMeasure) {
  backlog_.OnIdle(now_);
  Work(4);
  EXPECT_NE(RefuseMs(stream_, 1, 1), 0);
  now_ -= 3'600'000 * kMs;
  Work(1);
  EXPECT_EQ(RefuseMs(stream_, 1, 1), 0);
  Work(4);
  EXPECT_NE(RefuseMs(stream_, 1, 1), 0);
}

TEST_F(BacklogTest, StreamsWaitForTheirShareOfEachOther) {
  backlog_.OnIdle(now_);
  Work(4);
  Backlog::Stream much(backlog_);
  much.Add(kPrefill, 1000 * kMega);
  EXPECT_EQ(RefuseMs(stream_, 2, 50), 0) << "two of its own and two of the other";
  EXPECT_NE(RefuseMs(stream_, 2, 45), 0);
  EXPECT_NE(RefuseMs(much, 1, 9000), 0);
  much.Subtract(kPrefill, 1000 * kMega);
  EXPECT_EQ(RefuseMs(stream_, 2, 45), 0);
  auto decode = std::make_unique<Backlog::Stream>(backlog_);
  decode->Add(kDecode, 10 * kMega);
  EXPECT_NE(RefuseMs(stream_, 2, 50), 0) << "decode goes first";
  EXPECT_EQ(RefuseMs(stream_, 2, 50, kDecode), 0);
  decode.reset();
  EXPECT_EQ(RefuseMs(stream_, 2, 50), 0);
}

TEST_F(BacklogTest, NobodyWaitsForAClientThatDoesNotRead) {
  backlog_.OnIdle(now_);
  Work(4);
  Backlog::Stream stuck(backlog_);
  stuck.Add(kDecode, 1000 * kMega);
  stuck.BeginWrite(now_);
  EXPECT_NE(RefuseMs(stream_, 1, 100), 0);
  now_ += 101 * kMs;
  EXPECT_EQ(RefuseMs(stream_, 1, 100), 0);
  stuck.EndWrite();
  EXPECT_NE(RefuseMs(stream_, 1, 100), 0);
}

// Those that are refused come again one after the other, so that a server hears of no more of them
// than it can answer, and none comes before there is room.
TEST_F(BacklogTest, ThoseThatAreRefusedComeAgainOneAfterTheOther) {
  backlog_.OnIdle(now_);
  Work(4);
  stream_.Add(kPrefill, 100 * kMega);  // a second
  EXPECT_EQ(RefuseMs(stream_, 1, 800), 1010 - 700 + 20);
  EXPECT_EQ(RefuseMs(stream_, 1, 800), 1010 - 700 + 40);
  now_ += 10 * kMs;
  EXPECT_EQ(RefuseMs(stream_, 1, 800), 1010 - 700 + 50);
  // No more than two seconds; they are spread where these are not enough.
  std::vector<int64_t> after;
  for (int i = 0; i < 200; ++i) after.push_back(RefuseMs(stream_, 1, 800));
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_GT(after[i], 300) << i;
    EXPECT_LE(after[i], 2000) << i;
    if (i > 0) {
      EXPECT_TRUE(after[i] == after[i - 1] + 20 || after[i] == 1000) << i;
    }
  }
}

TEST(BacklogOfAServer, RefusesWhatWouldComeTooLateAndSaysWhenToAskAgain) {
  TestServer server;
  std::vector<std::unique_ptr<TestStream>> streams;
  for (uint64_t i = 0; i < 64; ++i) {
    streams.push_back(std::make_unique<TestStream>(server.stub()));
    streams.back()->Send(server.Request(1, 1));
    EXPECT_EQ(streams.back()->ReceiveAnswer(1).rows, FirstRows(1));
  }
  TestStream& stream = *streams.front();
  uint64_t id = 1;
  Answer answer;
  // The thread takes 50 ms and more for 64 requests of 264,000 bytes, 3 ns a byte; where it waits
  // meanwhile, it learns nothing of it.
  for (int round = 0; round < 50 && answer.retry_after_us == 0; ++round) {
    constexpr uint32_t kRows = 1000;
    server.store().Close();
    ++id;
    for (auto& each : streams) each->Send(server.Request(id, kRows, v1::PRIORITY_PREFILL));
    ASSERT_TRUE(server.store().WaitUntilBlocked());
    absl::SleepFor(absl::Milliseconds(50));
    server.store().Open();
    for (auto& each : streams) EXPECT_EQ(each->ReceiveAnswer(id).rows, FirstRows(kRows));
    v1::GatherStreamRequest request = server.Request(++id, kManyRows, v1::PRIORITY_PREFILL);
    request.set_budget_us(10'000);
    stream.Send(request);
    answer = stream.ReceiveAnswer(id);
  }
  EXPECT_EQ(answer.code, static_cast<uint32_t>(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(answer.message, "too much is asked for: the rows would come later than 10000 us");
  EXPECT_GT(answer.retry_after_us, 20'000u) << "10 MB, at 3 ns a byte at least";
  EXPECT_TRUE(answer.rows.empty());
  // What has time enough, or no end at all, is answered.
  v1::GatherStreamRequest request = server.Request(++id, 16, v1::PRIORITY_PREFILL);
  request.set_budget_us(10'000'000);
  stream.Send(request);
  EXPECT_EQ(stream.ReceiveAnswer(id).rows, FirstRows(16));
  stream.Send(server.Request(++id, kManyRows, v1::PRIORITY_PREFILL));
  EXPECT_EQ(stream.ReceiveAnswer(id).rows, FirstRows(kManyRows));
}

}  // namespace
}  // namespace engram

// What bounds one client, what is remembered of slow requests, and how lines of the log look.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/time/clock.h"
#include "service/client_limits.h"
#include "service/log.h"
#include "service/slow_requests.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(ClientLimitsTest, StreamsOfOneClientAreBounded) {
  ClientLimits limits(2, 0);
  ASSERT_OK_AND_ASSIGN(auto first, limits.Open("a"));
  ASSERT_OK_AND_ASSIGN(auto second, limits.Open("a"));
  EXPECT_THAT(limits.Open("a"), StatusIs(kExhausted, "a has 2 streams; one client may have 2"));
  EXPECT_THAT(limits.Open("b"), IsOk());
  first.reset();
  EXPECT_THAT(limits.Open("a"), IsOk());
}

TEST(ClientLimitsTest, RowsCountOverAllStreamsOfAClient) {
  ClientLimits limits(0, 100);
  ASSERT_OK_AND_ASSIGN(const auto one, limits.Open("a"));
  ASSERT_OK_AND_ASSIGN(const auto two, limits.Open("a"));
  ASSERT_OK_AND_ASSIGN(const auto other, limits.Open("b"));
  EXPECT_THAT(one->Take(60), IsOk());
  EXPECT_THAT(two->Take(41), StatusIs(kExhausted, "60 rows"));
  EXPECT_THAT(two->Take(40), IsOk());
  EXPECT_THAT(other->Take(100), IsOk());
  one->GiveBack(60);
  EXPECT_THAT(two->Take(60), IsOk());
}

TEST(ClientLimitsTest, OneRequestIsAlwaysLetThrough) {
  ClientLimits limits(0, 100);
  ASSERT_OK_AND_ASSIGN(const auto stream, limits.Open("a"));
  EXPECT_THAT(stream->Take(1000), IsOk());
  EXPECT_THAT(stream->Take(1), StatusIs(kExhausted, "may have 100"));
}

TEST(ClientLimitsTest, WithoutBoundsThereIsNothingToCount) {
  ClientLimits limits(0, 0);
  EXPECT_THAT(limits.Open("a"), IsOkAndHolds(nullptr));
}

TEST(ClientLimitsTest, AHostIsAPeerWithoutItsPort) {
  EXPECT_EQ(HostOfPeer("ipv4:10.0.0.1:1234"), "ipv4:10.0.0.1");
  EXPECT_EQ(HostOfPeer("ipv6:%5B::1%5D:80"), "ipv6:%5B::1%5D");
  EXPECT_EQ(HostOfPeer("unix:"), "unix:");
}

SlowRequest Request(uint64_t id, int64_t took_ns, int64_t received_ns) {
  return {.id = id, .received_ns = received_ns, .gather_ns = took_ns};
}

constexpr int64_t kSecond = 1'000'000'000;

std::vector<uint64_t> IdsOf(const SlowRequests& slow, int64_t now_ns) {
  std::vector<SlowRequest> all;
  slow.AddTo(all, now_ns);
  std::vector<uint64_t> ids;
  for (const SlowRequest& request : all) ids.push_back(request.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(SlowRequestsTest, TheSlowestOfAMinuteAreKept) {
  SlowRequests slow;
  const int64_t now = 1000 * kSecond;
  for (uint64_t id = 1; id <= 100; ++id) {
    const auto took = static_cast<int64_t>(id * 7919 % 101);  // each length once
    if (slow.IsSlow(took, now)) slow.Add(Request(id, took, now), now);
  }
  std::vector<uint64_t> slowest;
  for (uint64_t id = 1; id <= 100; ++id) {
    if (id * 7919 % 101 > 100 - SlowRequests::kKept) slowest.push_back(id);
  }
  EXPECT_EQ(IdsOf(slow, now), slowest);
  EXPECT_FALSE(slow.IsSlow(80, now));
  EXPECT_TRUE(slow.IsSlow(90, now));
}

TEST(SlowRequestsTest, OldOnesAreForgotten) {
  SlowRequests slow;
  slow.Add(Request(1, 100, 1000 * kSecond), 1000 * kSecond);
  EXPECT_TRUE(slow.IsSlow(0, 1061 * kSecond));
  slow.Add(Request(2, 1, 1061 * kSecond), 1061 * kSecond);
  EXPECT_EQ(IdsOf(slow, 1062 * kSecond), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(IdsOf(slow, 1130 * kSecond), (std::vector<uint64_t>{2}));
  EXPECT_EQ(IdsOf(slow, 1300 * kSecond), (std::vector<uint64_t>{}));
}

TEST(LogTest, ALineIsALine) {
  const absl::Time time = absl::FromUnixMicros(1'700'000'000'000'001);
  EXPECT_EQ(FormatLogLine(false, time, LogLevel::kInfo, "a\nb \"c\" \x01"),
            "2023-11-14T22:13:20.000001Z info a\\nb \\\"c\\\" \\001");
  const std::string json = FormatLogLine(true, time, LogLevel::kError, "a\nb \"c\" \xff");
  EXPECT_EQ(json.find('\n'), std::string::npos);
  const auto read = nlohmann::json::parse(json);
  EXPECT_EQ(read["time"], "2023-11-14T22:13:20.000001Z");
  EXPECT_EQ(read["level"], "error");
  EXPECT_EQ(read["message"], "a\nb \"c\" \xEF\xBF\xBD");
}

TEST(LogTest, AFloodIsCutOffAndCounted) {
  testing::internal::CaptureStderr();
  Log log(false);
  for (int i = 0; i < 3 * Log::kLinesPerSecond; ++i) log.Write(LogLevel::kInfo, "flood");
  absl::SleepFor(absl::Milliseconds(1100));
  log.Write(LogLevel::kInfo, "afterwards");
  const std::string said = testing::internal::GetCapturedStderr();
  const auto lines = std::count(said.begin(), said.end(), '\n');
  EXPECT_GE(lines, Log::kLinesPerSecond + 2);
  EXPECT_LE(lines, 2 * Log::kLinesPerSecond + 3);  // Had a second begun meanwhile.
  EXPECT_NE(said.find("lines were left out"), std::string::npos);
  EXPECT_NE(said.find("afterwards"), std::string::npos);
}

}  // namespace
}  // namespace engram

#include "client/server_health.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

using State = ServerHealth::State;
const absl::Time kStart = absl::FromUnixSeconds(1000);

TEST(ServerHealth, ThreeStrikesInARowPutItAside) {
  ServerHealth health;
  EXPECT_FALSE(health.OnStrike(kStart));
  EXPECT_FALSE(health.OnStrike(kStart));
  health.OnSuccess(kStart);
  EXPECT_FALSE(health.OnStrike(kStart));
  EXPECT_FALSE(health.OnStrike(kStart));
  EXPECT_EQ(health.state(kStart), State::kHealthy);
  EXPECT_TRUE(health.OnStrike(kStart));
  EXPECT_EQ(health.state(kStart), State::kEjected);
}

TEST(ServerHealth, AnswersToWhatItHadBeenAskedBeforeChangeNothing) {
  ServerHealth health;
  for (int i = 0; i < 3; ++i) health.OnStrike(kStart);
  health.OnSuccess(kStart);
  EXPECT_FALSE(health.OnStrike(kStart));
  EXPECT_EQ(health.state(kStart + absl::Milliseconds(999)), State::kEjected);
  EXPECT_EQ(health.state(kStart + absl::Seconds(1)), State::kProbation);
}

TEST(ServerHealth, OnProbationFiveAnswersBringItBackAndOneStrikeDoesNot) {
  ServerHealth health;
  for (int i = 0; i < 3; ++i) health.OnStrike(kStart);
  absl::Time now = kStart + absl::Seconds(1);
  EXPECT_TRUE(health.OnStrike(now));  // twice as long this time
  EXPECT_EQ(health.state(now + absl::Milliseconds(1999)), State::kEjected);
  now += absl::Seconds(2);
  EXPECT_EQ(health.state(now), State::kProbation);
  for (int i = 0; i < 4; ++i) health.OnSuccess(now);
  EXPECT_FALSE(health.healthy());
  health.OnSuccess(now);
  EXPECT_TRUE(health.healthy());
  for (int i = 0; i < 3; ++i) health.OnStrike(now);  // and all is as at first
  EXPECT_EQ(health.state(now + absl::Seconds(1)), State::kProbation);
}

TEST(ServerHealth, NeverLongerThanThirtySeconds) {
  ServerHealth health;
  absl::Time now = kStart;
  for (int i = 0; i < 3; ++i) health.OnStrike(now);
  for (int i = 0; i < 10; ++i) {
    now += absl::Seconds(30);
    EXPECT_EQ(health.state(now), State::kProbation);
    EXPECT_TRUE(health.OnStrike(now));
  }
}

}  // namespace
}  // namespace engram

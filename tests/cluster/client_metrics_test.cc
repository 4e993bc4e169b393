// What a client counts, against real servers that are slow, fail or go away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "client/metrics.h"
#include "client/slot.h"
#include "tests/cluster/fake_cluster.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"

namespace engram {
namespace {

double SecondsOf(const HistogramCounts& counts) { return static_cast<double>(counts.sum) * 1e-9; }

uint64_t AnswersOf(const ClientStats& stats, Answer answer) {
  return stats.answers[static_cast<size_t>(answer)].count();
}

const LayerStats& LayerOf(const ClientStats& stats, uint32_t layer) {
  return *std::find_if(stats.layers.begin(), stats.layers.end(),
                       [&](const LayerStats& each) { return each.layer == layer; });
}

TEST(ClientMetrics, StallSecondsAreTheWait) {
  constexpr int kLookups = 5;
  constexpr absl::Duration kDelay = absl::Milliseconds(40);
  TestCluster cluster(2);
  cluster.disturbance(1).delay_us = absl::ToInt64Microseconds(kDelay);
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses()}));
  // A layer of both servers: half of it comes at once.
  std::vector<uint8_t> out;
  double waited = 0;
  for (int i = 0; i < kLookups; ++i) {
    const std::vector<int64_t> ids = RandomIds(*client, 0, 200);
    out.assign(ids.size() * client->layout().row_bytes(), 0);
    ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, {}));
    const absl::Time begin = absl::Now();
    ASSERT_THAT(ticket.Wait(1), IsOk());
    waited += absl::ToDoubleSeconds(absl::Now() - begin);
    ASSERT_THAT(ticket.Wait(1), IsOk());  // It is there: no time at all.
  }
  // on_done's side of a lookup may come a moment after its last layer.
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (client->stats().lookups < kLookups && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const ClientStats stats = client->stats();
  const HistogramCounts& stall = LayerOf(stats, 1).stall;
  EXPECT_EQ(stall.count(), 2u * kLookups);
  EXPECT_GE(stall.buckets[0], uint64_t{kLookups});
  EXPECT_LE(SecondsOf(stall), waited);
  EXPECT_GT(SecondsOf(stall), 0.75 * waited);
  EXPECT_GT(SecondsOf(stall), 0.5 * kLookups * absl::ToDoubleSeconds(kDelay));
  EXPECT_EQ(LayerOf(stats, 14).stall.count(), 0u);
  EXPECT_EQ(stats.lookups, uint64_t{kLookups});
  EXPECT_EQ(stats.failed_lookups, 0u);
  EXPECT_EQ(stats.fetch.count(), uint64_t{kLookups});
  EXPECT_GE(SecondsOf(stats.fetch), kLookups * absl::ToDoubleSeconds(kDelay));
  EXPECT_EQ(AnswersOf(stats, Answer::kOk), stats.requests);
  EXPECT_EQ(stats.straggler_gap.count(), uint64_t{kLookups});
  EXPECT_GT(SecondsOf(stats.straggler_gap), 0.25 * kLookups * absl::ToDoubleSeconds(kDelay));
  EXPECT_EQ(stats.connected_servers, 2u);
  EXPECT_EQ(stats.gone_servers, 0u);
  EXPECT_GT(stats.received_bytes, stats.row_bytes);
  EXPECT_GT(stats.sent_bytes, 0u);
  EXPECT_EQ(stats.rows * client->layout().row_bytes(), stats.row_bytes);
}

TEST(ClientMetrics, MaskedRowsAndFailedLookups) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses()}));
  std::vector<uint8_t> out;
  ASSERT_THAT(LookUp(*client, 1, {5, kNoRow, 7, kNoRow, kNoRow}, out), IsOk());
  EXPECT_EQ(client->stats().masked_rows, 3u);
  cluster.disturbance(0).failure = absl::StatusCode::kFailedPrecondition;
  EXPECT_FALSE(LookUp(*client, 1, {5}, out).ok());
  cluster.disturbance(0).failure = absl::StatusCode::kResourceExhausted;
  EXPECT_FALSE(LookUp(*client, 1, {5}, out).ok());
  const ClientStats stats = client->stats();
  EXPECT_EQ(stats.lookups, 3u);
  EXPECT_EQ(stats.failed_lookups, 2u);
  EXPECT_EQ(AnswersOf(stats, Answer::kOk), 1u);
  EXPECT_EQ(AnswersOf(stats, Answer::kOverload), 1u);
  EXPECT_EQ(AnswersOf(stats, Answer::kMismatch), 1u);
}

TEST(ClientMetrics, ServersByTheirState) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Client::Connect({.servers = cluster.addresses(), .rows_per_request = 300}));
  const auto becomes = [&](auto condition) {
    // On a machine that is slow by turns a server may be put aside several times.
    const absl::Time limit = absl::Now() + absl::Seconds(60);
    std::vector<uint8_t> out;
    while (!condition(client->stats())) {
      if (absl::Now() > limit) return false;
      LookUp(*client, 1, RandomIds(*client, 0, 1000), out).IgnoreError();
    }
    return true;
  };
  EXPECT_TRUE(becomes([](const ClientStats& s) { return s.connected_servers == 2; }));
  cluster.disturbance(1).failure = absl::StatusCode::kInternal;
  EXPECT_TRUE(becomes(
      [](const ClientStats& s) { return s.connected_servers == 1 && s.ejected_servers == 1; }));
  cluster.disturbance(1).failure = absl::StatusCode::kOk;
  EXPECT_TRUE(becomes([](const ClientStats& s) { return s.connected_servers == 2; }));
  cluster.Kill(1);
  EXPECT_TRUE(becomes(
      [](const ClientStats& s) { return s.connected_servers == 1 && s.gone_servers == 1; }));
}

TEST(ClientMetrics, ASlotsWordsAreTimedFromItsSubmit) {
  constexpr absl::Duration kHeld = absl::Milliseconds(50);
  FakeCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, cluster.Connect());
  ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client, {.max_tokens = 4, .layers = {1}}));
  cluster.store(0).Close();
  const std::vector<int64_t> ids(kFakeColumns, 0);
  StepIds step{.tokens = 1, .layers = {}};
  step.layers.emplace_back(ids.data(), kFakeColumns);
  ASSERT_THAT(slot->SubmitIds(step, {}), IsOk());
  ASSERT_TRUE(cluster.store(0).WaitUntilBlocked());
  absl::SleepFor(kHeld);
  cluster.store(0).Open();
  ASSERT_THAT(slot->WaitAll(), IsOk());
  const ClientStats stats = client->stats();
  EXPECT_EQ(LayerOf(stats, 1).word.count(), 1u);
  EXPECT_GE(SecondsOf(LayerOf(stats, 1).word), absl::ToDoubleSeconds(kHeld));
  EXPECT_EQ(LayerOf(stats, 14).word.count(), 0u);
}

TEST(ClientMetrics, FamiliesHaveNamesOnceAndHelp) {
  FakeCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, cluster.Connect());
  std::vector<std::string> names;
  for (const MetricFamily& family : ClientMetrics(*client)) {
    EXPECT_THAT(family.name, testing::StartsWith("engram_client_"));
    EXPECT_NE(family.help, "") << family.name;
    EXPECT_FALSE(family.samples.empty()) << family.name;
    names.push_back(family.name);
  }
  std::vector<std::string> unique = names;
  std::sort(unique.begin(), unique.end());
  EXPECT_EQ(std::unique(unique.begin(), unique.end()), unique.end());
}

}  // namespace
}  // namespace engram

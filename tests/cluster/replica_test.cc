// What becomes of lookups when servers are slow, fail, lie or go away while others hold their rows.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/time/clock.h"
#include "client/client.h"
#include "proto/base/retry_after.h"
#include "proto/base/status_macros.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

// To all of the servers: Connect returns when one holds each row.
absl::StatusOr<std::unique_ptr<Client>> Connect(const std::vector<std::string>& servers,
                                                double verify_share = 0) {
  ASSIGN_OR_RETURN(auto client, Client::Connect({.servers = servers,
                                                 .connect_timeout = absl::Seconds(5),
                                                 .verify_share = verify_share,
                                                 .rows_per_request = 300}));
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  while (client->stats().connected_servers < servers.size() && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  return client;
}

// Looks 1,000 rows up and checks each.
void ExpectLookup(Client& client) {
  const std::vector<int64_t> ids = RandomIds(client, 0, 1000);
  std::vector<uint8_t> out;
  ASSERT_THAT(LookUp(client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

// Looks up until `condition` holds, every lookup well.
template <typename Condition>
void LookUpUntil(Client& client, Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!condition() && !testing::Test::HasFatalFailure()) {
    ASSERT_LT(absl::Now(), deadline);
    ExpectLookup(client);
  }
}

TEST(ReplicaTest, ReplicasShareTheLoad) {
  TestCluster cluster(1, 0, 2);
  // Nothing is late here: on a busy machine a server would be put aside now and then.
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses(),
                                                           .rows_per_request = 300,
                                                           .hedge_after_least = absl::Minutes(1)}));
  for (int i = 0; i < 50; ++i) ExpectLookup(*client);
  const uint64_t all = cluster.disturbance(0).gathers + cluster.disturbance(1).gathers;
  EXPECT_GT(cluster.disturbance(0).gathers, all / 4);
  EXPECT_GT(cluster.disturbance(1).gathers, all / 4);
}

TEST(ReplicaTest, NoLookupFailsWhileServersAreKilledAndComeBack) {
  TestCluster cluster(2, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  std::atomic<bool> over{false};
  std::thread killer([&] {
    for (int round = 0; round < 6; ++round) {
      const auto victim = static_cast<uint32_t>(round % 4);
      cluster.Kill(victim);
      cluster.Start(victim);
      // Its replica is only taken away when it is back.
      const absl::Time deadline = absl::Now() + absl::Seconds(10);
      while (!client->MissingRanges().empty() && absl::Now() < deadline) std::this_thread::yield();
      std::vector<ServerStatus> asked;
      do {
        asked = AskServers({cluster.addresses()[victim]}, absl::Seconds(1));
      } while (!asked[0].status.ok());
      // And known to the client to be; no lookup lives through the loss of both.
#if defined(__SANITIZE_THREAD__)
      absl::SleepFor(absl::Milliseconds(1500));
#else
      absl::SleepFor(absl::Milliseconds(300));
#endif
    }
    over = true;
  });
  LookUpUntil(*client, [&] { return over.load(); });
  killer.join();
  EXPECT_GT(client->stats().requests, 0u);
}

TEST(ReplicaTest, WhatOneServerCannotGiveTheOtherGives) {
  for (const Code code : {Code::kUnavailable, Code::kResourceExhausted, Code::kDataLoss,
                          Code::kInternal, Code::kFailedPrecondition}) {
    TestCluster cluster(1, 0, 2);
    cluster.disturbance(0).failure = code;
    ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
    for (int i = 0; i < 10; ++i) ExpectLookup(*client);
    EXPECT_GT(client->stats().retries, 0u);
  }
}

// Both are asked for each request, were there no bound: twice the work where there is too much.
TEST(ReplicaTest, WhereNoServerHasRoomFewRequestsAreSentTwice) {
  TestCluster cluster(1, 0, 2);
  cluster.disturbance(0).failure = Code::kResourceExhausted;
  cluster.disturbance(1).failure = Code::kResourceExhausted;
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  std::vector<uint8_t> out;
  constexpr int kLookups = 200;
  for (int i = 0; i < kLookups; ++i) {
    const absl::Status status = LookUp(*client, 1, {1, 2, 3}, out);
    ASSERT_THAT(status, StatusIs(Code::kResourceExhausted, "server 127.0.0.1:"));
    absl::SleepFor(RetryAfter(status));
  }
  EXPECT_GE(client->stats().requests, kLookups);
  EXPECT_GT(client->stats().retries, 0u);
  EXPECT_LE(client->stats().retries, 16 + kLookups / 8);  // a burst, and a tenth of the requests
  EXPECT_EQ(client->stats().ejections, 0u) << "who is busy is not ill";
}

TEST(ReplicaTest, WhoHasNoRoomIsNotAskedBeforeItsTime) {
  TestCluster cluster(1);
  cluster.disturbance(0).failure = Code::kResourceExhausted;
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  std::vector<uint8_t> out;
  const auto look_up = [&] {
    const absl::Status status = LookUp(*client, 1, {1, 2, 3}, out);
    EXPECT_THAT(status, StatusIs(Code::kResourceExhausted, "server 127.0.0.1:"));
    return RetryAfter(status);
  };
  EXPECT_EQ(look_up(), kFailureRetryAfter);
  const absl::Time refused = absl::Now();
  uint64_t asked = 1;
  for (absl::Duration after = look_up(); after < kFailureRetryAfter; after = look_up()) {
    EXPECT_GT(after, absl::ZeroDuration());
    EXPECT_EQ(client->stats().requests, 1u);
    ++asked;
  }
  EXPECT_GE(absl::Now(), refused + kFailureRetryAfter - absl::Milliseconds(1));
  EXPECT_EQ(client->stats().requests, 2u) << "it was asked again when its time had come";
  EXPECT_EQ(client->stats().shed, asked - 1);
}

TEST(ReplicaTest, WhereAllFailTheErrorNamesTheServer) {
  TestCluster cluster(1, 0, 2);
  cluster.disturbance(0).failure = Code::kDataLoss;
  cluster.disturbance(1).failure = Code::kDataLoss;
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  std::vector<uint8_t> out;
  EXPECT_THAT(LookUp(*client, 1, {1, 2, 3}, out), StatusIs(Code::kDataLoss, "server 127.0.0.1:"));
}

TEST(ReplicaTest, ASlowServerIsPutAsideAndComesBack) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  for (int i = 0; i < 20; ++i) ExpectLookup(*client);
  cluster.disturbance(0).delay_us = 100'000;
  LookUpUntil(*client, [&] { return client->stats().ejections > 0; });
  EXPECT_GT(client->stats().hedges_won, 0u);
  // Aside, it is asked for nothing but trials.
  uint64_t before = 0;
  LookUpUntil(*client, [&] {
    before = cluster.disturbance(0).gathers;
    for (int i = 0; i < 20; ++i) ExpectLookup(*client);
    return cluster.disturbance(0).gathers <= before + 8;
  });
  // Well again, it shares the load again.
  cluster.disturbance(0).delay_us = 0;
  LookUpUntil(*client, [&] { return cluster.disturbance(0).gathers > before + 100; });
}

// Of 1,000 rows, while a server has stopped to answer.
void ExpectLookupWithin(Client& client, absl::Duration timeout) {
  const std::vector<int64_t> ids = RandomIds(client, 0, 1000);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client.SubmitRows({{1, ids, out}}, {.timeout = timeout}));
  ASSERT_THAT(ticket.WaitAll(), IsOk());
  ExpectRows(1, ids, out);
}

// It may have been put aside a moment before the other one stops to answer.
TEST(ReplicaTest, AServerPutAsideIsAskedWhereTheOtherIsSilent) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  for (int i = 0; i < 20; ++i) ExpectLookup(*client);
  cluster.disturbance(1).delay_us = 20'000;
  LookUpUntil(*client, [&] { return client->stats().ejections > 0; });
  cluster.disturbance(0).delay_us = 3'000'000;
  cluster.disturbance(1).delay_us = 0;
  ExpectLookupWithin(*client, absl::Seconds(2));
}

// With the time that a quarter of its own is.
TEST(ReplicaTest, ASilentServerCostsTheFirstLookupNothing) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  cluster.disturbance(0).delay_us = 3'000'000;
  ExpectLookupWithin(*client, absl::Seconds(2));
}

class SilentServerTest : public testing::TestWithParam<bool> {};

// Where slow servers have used the budget of second requests up a moment before.
TEST_P(SilentServerTest, CostsNothingWithoutABudgetForSecondRequests) {
  const bool both_aside = GetParam();
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses(),
                                                           .connect_timeout = absl::Seconds(5),
                                                           .rows_per_request = 20,
                                                           .hedge_share = 1e-9}));
  for (int i = 0; i < 20; ++i) ExpectLookup(*client);
  cluster.disturbance(0).delay_us = 5'000;
  cluster.disturbance(1).delay_us = both_aside ? 5'000 : 0;
  for (int i = 0; i < 2; ++i) ExpectLookup(*client);
  cluster.disturbance(0).delay_us = 3'000'000;
  cluster.disturbance(1).delay_us = 0;
  for (int i = 0; i < 3; ++i) ExpectLookupWithin(*client, absl::Seconds(2));
}

INSTANTIATE_TEST_SUITE_P(BothAside, SilentServerTest, testing::Bool(),
                         [](const auto& each) { return each.param ? "yes" : "no"; });

TEST(ReplicaTest, WhatALostServerHasNotAnsweredNamesItsRange) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  cluster.disturbance(0).delay_us = 1'000'000;
  const std::vector<int64_t> ids = RandomIds(*client, 0, 24);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket,
                       client->SubmitRows({{1, ids, out}}, {.timeout = absl::Seconds(10)}));
  while (cluster.disturbance(0).gathers == 0) std::this_thread::yield();
  cluster.Kill(0);
  EXPECT_THAT(ticket.WaitAll(), StatusIs(Code::kUnavailable, "no answer for layer 1 rows [0, "));
}

TEST(ReplicaTest, WhatIsLateNamesItsRange) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  cluster.disturbance(0).delay_us = 300'000;
  const std::vector<int64_t> ids = RandomIds(*client, 0, 24);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket,
                       client->SubmitRows({{1, ids, out}}, {.timeout = absl::Milliseconds(20)}));
  EXPECT_THAT(ticket.WaitAll(),
              StatusIs(Code::kDeadlineExceeded, "within 20ms: no answer for layer 1 rows [0, "));
}

TEST(ReplicaTest, SecondRequestsStayWithinTheirBudget) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  for (int i = 0; i < 20; ++i) ExpectLookup(*client);
  // Both slow: second requests cannot help, and must not double the load.
  cluster.disturbance(0).delay_us = 3'000;
  cluster.disturbance(1).delay_us = 3'000;
  const ClientStats before = client->stats();
  for (int i = 0; i < 40; ++i) ExpectLookup(*client);
  const ClientStats after = client->stats();
  const uint64_t rescued = 16 * (after.ejections - before.ejections);
  EXPECT_LE(after.hedges - before.hedges, 16 + rescued + (after.requests - before.requests) / 10);
}

TEST(ReplicaTest, RowsThatDifferFromTheirChecksumsComeFromTheReplica) {
  TestCluster cluster(1, 0, 2);
  cluster.disturbance(0).flips_a_bit = true;
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses(), /*verify_share=*/1));
  for (int i = 0; i < 20; ++i) ExpectLookup(*client);
  const ClientStats stats = client->stats();
  EXPECT_GT(stats.checksum_failures, 0u);
  EXPECT_GT(stats.verified_rows, 10'000u);
}

// Both replicas answer everything, in several pieces each, and one flips a bit of each piece: rows
// of the two must not be mixed.
TEST(ReplicaTest, RowsOfTwoAnswersAreNotMixed) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Client::Connect({.servers = cluster.addresses(),
                                        .verify_share = 1,
                                        .rows_per_request = 4096,
                                        .hedge_share = 1,
                                        .hedge_after_least = absl::Nanoseconds(1)}));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 20'000);
  std::vector<uint8_t> out;
  for (int i = 0; i < 30; ++i) ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  cluster.disturbance(0).flips_a_bit = true;
  for (int i = 0; i < 100; ++i) {
    std::fill(out.begin(), out.end(), uint8_t{0});
    ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
    ExpectRows(1, ids, out);
  }
  EXPECT_GT(client->stats().hedges, 0u);
  EXPECT_GT(client->stats().checksum_failures, 0u);
}

TEST(ReplicaTest, WithoutAReplicaRowsThatDifferAreDataLoss) {
  TestCluster cluster(1);
  cluster.disturbance(0).flips_a_bit = true;
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses(), /*verify_share=*/1));
  std::vector<uint8_t> out;
  EXPECT_THAT(LookUp(*client, 1, {1, 2, 3}, out),
              StatusIs(Code::kDataLoss, "differs from its checksum"));
}

// Tokens of 24 rows each; those with a row of the lost half are zeros, whole, and flagged.
TEST(ReplicaTest, TokensWithoutRowsDegradeWholeByChoice) {
  TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  const int64_t half = static_cast<int64_t>(client->geometry().layers()[0].rows / 2);
  constexpr size_t kTokens = 40, kColumns = 24;
  std::vector<int64_t> ids(kTokens * kColumns);
  for (size_t i = 0; i < ids.size(); ++i) {
    // Every third token has its last row in the second half.
    const bool lost = i % kColumns == kColumns - 1 && (i / kColumns) % 3 == 0;
    ids[i] = static_cast<int64_t>(i) % (half - 1) + (lost ? half + 1 : 0);
  }
  cluster.Kill(1);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xA5), degraded(kTokens, 7);
  LookupOptions options;
  options.missing = MissingRows::kZeros;
  options.degraded = degraded;
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, options));
  ASSERT_THAT(ticket.WaitAll(), IsOk());
  std::vector<int64_t> expected = ids;
  for (size_t token = 0; token < kTokens; ++token) {
    EXPECT_EQ(degraded[token], token % 3 == 0) << token;
    if (token % 3 == 0)
      std::fill_n(expected.begin() + static_cast<ptrdiff_t>(token * kColumns), kColumns, kNoRow);
  }
  ExpectRows(1, expected, out);
  EXPECT_EQ(client->stats().degraded_tokens, 14u);
}

TEST(ReplicaTest, WhatIsLateDegradesToo) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  cluster.disturbance(0).delay_us = 300'000;
  const std::vector<int64_t> ids = RandomIds(*client, 0, 24);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xA5), degraded(1);
  LookupOptions options;
  options.timeout = absl::Milliseconds(20);
  options.missing = MissingRows::kZeros;
  options.degraded = degraded;
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, options));
  ASSERT_THAT(ticket.WaitAll(), IsOk());
  EXPECT_EQ(degraded[0], 1);
  EXPECT_EQ(out, std::vector<uint8_t>(out.size(), 0));
}

TEST(ReplicaTest, DegradingDoesNotHideWrongCalls) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect(cluster.addresses()));
  std::vector<int64_t> ids(2 * 24, 1);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes), degraded(2), three(3);
  LookupOptions options;
  options.missing = MissingRows::kZeros;
  EXPECT_THAT(client->SubmitRows({{1, ids, out}}, options),
              StatusIs(Code::kInvalidArgument, "needs `degraded`"));
  options.degraded = three;
  EXPECT_THAT(client->SubmitRows({{1, ids, out}}, options),
              StatusIs(Code::kInvalidArgument, "3 degraded flags for 48 rows of 24 columns"));
  options.degraded = degraded;
  ids[30] = int64_t{1} << 40;
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, options));
  EXPECT_THAT(ticket.WaitAll(), StatusIs(Code::kOutOfRange, "is not a row"));
}

TEST(ReplicaTest, ServersAreReplacedWhileLookupsGoOn) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect({cluster.addresses()[0]}));
  ExpectLookup(*client);
  EXPECT_THAT(client->SetServers({}), StatusIs(Code::kInvalidArgument, "names no server"));
  // Both, then the second alone: the first can go, and nothing is missed.
  ASSERT_THAT(client->SetServers(cluster.addresses()), IsOk());
  LookUpUntil(*client, [&] { return cluster.disturbance(1).gathers > 0; });
  ASSERT_THAT(client->SetServers({cluster.addresses()[1]}), IsOk());
  LookUpUntil(*client, [&] {
    const uint64_t before = cluster.disturbance(0).gathers;
    ExpectLookup(*client);
    return cluster.disturbance(0).gathers == before;
  });
  cluster.Kill(0);
  for (int i = 0; i < 10; ++i) ExpectLookup(*client);
  EXPECT_TRUE(client->MissingRanges().empty());
}

TEST(ReplicaTest, OtherServersAreTakenWithoutALookupLost) {
  TestCluster cluster(1, 0, 2);
  ASSERT_OK_AND_ASSIGN(const auto client, Connect({cluster.addresses()[0]}));
  ASSERT_THAT(client->SetServers({cluster.addresses()[1]}), IsOk());
  LookUpUntil(*client, [&] {
    const uint64_t before = cluster.disturbance(0).gathers;
    ExpectLookup(*client);
    return cluster.disturbance(0).gathers == before && cluster.disturbance(1).gathers > 0;
  });
}

TEST(ReplicaTest, NamesAreLookedUp) {
  TestCluster cluster(1);
  const std::string& address = cluster.addresses()[0];
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Connect({"localhost" + address.substr(address.rfind(':'))}));
  ExpectLookup(*client);
}

TEST(ReplicaTest, AChildMadeByForkIsToldToConnectAgain) {
  TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(auto client, Connect(cluster.addresses()));
  cluster.disturbance(0).delay_us = 50'000;
  const std::vector<int64_t> ids = {1, 2, 3};
  std::vector<uint8_t> out(3 * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, {}));
  const pid_t child = fork();
  if (child == 0) {
    bool right = absl::IsFailedPrecondition(client->SubmitRows({{1, ids, out}}, {}).status());
    right = right && absl::IsFailedPrecondition(ticket.Wait(1));
    ticket = Ticket();
    client.reset();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(ticket.Wait(1), IsOk());
  ExpectRows(1, ids, out);
}

}  // namespace
}  // namespace engram

// The client library against real servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

absl::StatusOr<std::unique_ptr<Client>> ConnectTo(const std::vector<std::string>& servers,
                                                  bool allow_partial = false) {
  return Client::Connect({.servers = servers,
                          .allow_partial = allow_partial,
                          .connect_timeout = absl::Seconds(1),
                          .rows_per_request = 1000});
}

TEST(ClusterTest, RowsOfAllShardsComeInRequestOrder) {
  const TestCluster cluster(3);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  EXPECT_TRUE(client->MissingRanges().empty());
  for (const size_t count : {0, 1, 16, 5000, 20000}) {
    const std::vector<int64_t> ids_1 = RandomIds(*client, 0, count);
    const std::vector<int64_t> ids_14 = RandomIds(*client, 1, count);
    std::vector<uint8_t> out_1(count * kSynthRowBytes), out_14(count * kSynthRowBytes);
    ASSERT_OK_AND_ASSIGN(Ticket ticket,
                         client->SubmitRows({{14, ids_14, out_14}, {1, ids_1, out_1}}, {}));
    ASSERT_THAT(ticket.Wait(1), IsOk());
    ExpectRows(1, ids_1, out_1);
    ASSERT_THAT(ticket.Wait(14), IsOk());
    EXPECT_TRUE(ticket.Done(14));
    ExpectRows(14, ids_14, out_14);
    EXPECT_THAT(ticket.Wait(3), StatusIs(Code::kNotFound, "no layer 3"));
  }
}

TEST(ClusterTest, EveryRowOfTheTable) {
  const TestCluster cluster(4);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  for (const LayerGeometry& layer : client->geometry().layers()) {
    std::vector<int64_t> ids(layer.rows);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
    std::vector<uint8_t> out;
    ASSERT_THAT(LookUp(*client, layer.layer_id, ids, out), IsOk());
    ExpectRows(layer.layer_id, ids, out);
  }
}

TEST(ClusterTest, ManyThreadsShareAClient) {
  const TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 300);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        std::vector<uint8_t> out;
        ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
        ExpectRows(1, ids, out);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ClusterTest, BadLookupsAreRefusedByName) {
  const TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  std::vector<uint8_t> out;
  EXPECT_THAT(LookUp(*client, 2, {1}, out),
              StatusIs(Code::kNotFound, "layer 2 has no Engram table"));
  EXPECT_THAT(LookUp(*client, 1, {1, 1'000'000}, out),
              StatusIs(Code::kOutOfRange, "layer 1: row id 1000000 at position 1"));
  EXPECT_THAT(LookUp(*client, 1, {-7}, out), StatusIs(Code::kOutOfRange, "row id -7"));
  EXPECT_THAT(client->SubmitRows({}, {}), StatusIs(Code::kInvalidArgument, "at least one layer"));
  const std::vector<int64_t> ids = {1, 2};
  EXPECT_THAT(client->SubmitRows({{1, ids, out}}, {}),
              StatusIs(Code::kInvalidArgument, "the buffer has 264 bytes, 2 rows take 528"));
  out.resize(528);
  EXPECT_THAT(client->SubmitRows({{1, ids, out}, {1, ids, out}}, {}),
              StatusIs(Code::kInvalidArgument, "layer 1 stands twice"));
  LookBack state;
  const std::vector<uint32_t> tokens = {1};
  EXPECT_THAT(client->SubmitTokens(tokens, {}, state, {{1, out}}, {}),
              StatusIs(Code::kFailedPrecondition, "no token map"));
}

TEST(ClusterTest, MissingRangesAreNamed) {
  const TestCluster cluster(4);
  const std::vector<std::string> some = {cluster.addresses()[0], cluster.addresses()[2]};
  EXPECT_THAT(ConnectTo(some), StatusIs(Code::kUnavailable, "no server holds layer 1 rows ["));
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(some, /*allow_partial=*/true));
  EXPECT_EQ(client->MissingRanges().size(), 4u);
  std::vector<uint8_t> out;
  EXPECT_THAT(LookUp(*client, 1, {0}, out), IsOk());
  const auto last = static_cast<int64_t>(client->geometry().layers()[0].rows) - 1;
  EXPECT_THAT(LookUp(*client, 1, {last}, out),
              StatusIs(Code::kUnavailable, "no server is up that holds layer 1 rows ["));
}

TEST(ClusterTest, ServersOfAnotherTableAreRefused) {
  const TestCluster one(1, /*seed=*/0), other(1, /*seed=*/1);
  const std::string a = one.addresses()[0], b = other.addresses()[0];
  ASSERT_OK_AND_ASSIGN(const auto of_one, ConnectTo({a}));
  ASSERT_OK_AND_ASSIGN(const auto of_other, ConnectTo({b}));
  const std::string digest_a = ToHex(of_one->digest()), digest_b = ToHex(of_other->digest());
  const auto conflict = [](const std::string& x, const std::string& of_x, const std::string& y,
                           const std::string& of_y) {
    return StatusIs(Code::kFailedPrecondition, absl::StrCat(x, " serves the table of digest ", of_x,
                                                            ", but ", y, " serves that of ", of_y));
  };
  // Whichever answers first.
  for (const std::vector<std::string>& servers : {std::vector{a, b}, std::vector{b, a}}) {
    EXPECT_THAT(ConnectTo(servers), testing::AnyOf(conflict(a, digest_a, b, digest_b),
                                                   conflict(b, digest_b, a, digest_a)));
  }
  EXPECT_THAT(
      Client::Connect({.servers = one.addresses(), .expect_digest = Sha256{}}),
      StatusIs(Code::kFailedPrecondition, absl::StrCat("holds no table of digest ", ToHex(Sha256{}),
                                                       "; it holds ", digest_a)));
}

// Restarted on another checkpoint, a server claims the ranges it had, of other rows.
TEST(ClusterTest, AServerThatComesBackWithAnotherTableIsNotAsked) {
  TestCluster first(1), other(1, /*seed=*/1);
  const TestCluster replica(1);
  const std::string address = first.addresses()[0];
  ASSERT_OK_AND_ASSIGN(const auto alone, ConnectTo({address}));
  ASSERT_OK_AND_ASSIGN(const auto both, ConnectTo({address, replica.addresses()[0]}));
  ASSERT_OK_AND_ASSIGN(const auto of_other, ConnectTo(other.addresses()));
  const std::vector<int64_t> ids = RandomIds(*alone, 0, 100);
  first.Kill(0);
  other.Start(0, address);
  const std::string conflict =
      absl::StrCat("serves the table of digest ", ToHex(of_other->digest()), ", but ", address,
                   " serves that of ", ToHex(alone->digest()));
  std::vector<uint8_t> out;
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  absl::Status status;
  do {
    status = LookUp(*alone, 1, ids, out);
    ASSERT_FALSE(status.ok());
    if (LookUp(*both, 1, ids, out).ok()) ExpectRows(1, ids, out);
  } while (!absl::StrContains(status.message(), conflict) && absl::Now() < limit);
  EXPECT_THAT(status, StatusIs(Code::kUnavailable, conflict));
  while (!(status = LookUp(*both, 1, ids, out)).ok() && absl::Now() < limit) {
  }
  ASSERT_THAT(status, IsOk());
  ExpectRows(1, ids, out);
}

TEST(ClusterTest, NoServerAtAll) {
  EXPECT_THAT(ConnectTo({"127.0.0.1:1"}), StatusIs(Code::kUnavailable, "127.0.0.1:1"));
}

TEST(ClusterTest, ALostServerIsNamedAndHeals) {
  TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  const auto last = static_cast<int64_t>(client->geometry().layers()[0].rows) - 1;
  cluster.Kill(1);
  std::vector<uint8_t> out;
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  absl::Status status;
  while ((status = LookUp(*client, 1, {last}, out)).ok() && absl::Now() < limit) {
  }
  EXPECT_THAT(status, StatusIs(Code::kUnavailable, cluster.addresses()[1]));
  ASSERT_THAT(LookUp(*client, 1, {0}, out), IsOk()) << "the other shard is not concerned";
  ExpectRows(1, {0}, out);

  cluster.Start(1);
  while (!(status = LookUp(*client, 1, {last}, out)).ok() && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  ASSERT_THAT(status, IsOk());
  ExpectRows(1, {last}, out);
}

TEST(ClusterTest, AReplicaTakesOverWhenOneDrains) {
  TestCluster cluster(1);
  TestCluster replica(1);
  ASSERT_OK_AND_ASSIGN(const auto client,
                       ConnectTo({cluster.addresses()[0], replica.addresses()[0]}));
  cluster.server(0).BeginDrain();
  const std::vector<int64_t> ids = RandomIds(*client, 0, 100);
  std::vector<uint8_t> out;
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  absl::Status status;
  do {
    status = LookUp(*client, 1, ids, out);
  } while (!status.ok() && absl::Now() < limit);
  ASSERT_THAT(status, IsOk());
  for (int i = 0; i < 20; ++i) ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

TEST(ClusterTest, TicketsDroppedWithRowsOutTouchNothingAfterwards) {
  const TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  for (int i = 0; i < 50; ++i) {
    const std::vector<int64_t> ids = RandomIds(*client, 0, 8000);
    std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
    ASSERT_OK_AND_ASSIGN(const Ticket ticket, client->SubmitRows({{1, ids, out}}, {}));
  }  // The buffer goes right after its ticket: a late write is a use after free.
  std::vector<uint8_t> out;
  const std::vector<int64_t> ids = RandomIds(*client, 0, 100);
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

TEST(ClusterTest, AClientThatClosesEndsItsTickets) {
  const TestCluster cluster(2);
  ASSERT_OK_AND_ASSIGN(auto client, ConnectTo(cluster.addresses()));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 20000);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, {}));
  client.reset();
  const absl::Status status = ticket.WaitAll();
  EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
}

TEST(ClusterTest, ATimeoutEndsTheLookup) {
  const TestCluster cluster(1);
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo(cluster.addresses()));
  const std::vector<int64_t> ids = RandomIds(*client, 0, 100000);
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes);
  ASSERT_OK_AND_ASSIGN(Ticket ticket,
                       client->SubmitRows({{1, ids, out}}, {.timeout = absl::Microseconds(1)}));
  EXPECT_THAT(ticket.Wait(1), StatusIs(Code::kDeadlineExceeded, ""));
}

// A table of the paper's layout with a tokenizer of three tokens, two of which normalize alike.
TEST(ClusterTest, TokenIdsBeyondTheMapAreRefused) {
  TempDir directory;
  WriteTestFile(directory.File("small.json"),
                R"({"model": {"type": "BPE", "vocab": {"a": 0, "A": 1, "b": 2}}})");
  SynthOptions synth;
  synth.out = directory.File("checkpoint");
  synth.model = SynthModel::kPaper;
  synth.bucket_floor = 200;
  synth.tokenizer = directory.File("small.json");
  ASSERT_THAT(Synthesize(synth), IsOk());
  LoadOptions load;
  load.checkpoint = synth.out;
  load.threads = 1;
  ASSERT_OK_AND_ASSIGN(Table table, LoadTable(load));
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 1;
  ASSERT_OK_AND_ASSIGN(const auto server,
                       Server::Start(std::make_shared<const Table>(std::move(table)), options));
  ASSERT_OK_AND_ASSIGN(const auto client, ConnectTo({server->address()}));
  ASSERT_EQ(client->token_map()->compressed_count(), 2u);

  const size_t row_bytes = client->layout().row_bytes();
  std::vector<uint8_t> out(3 * 16 * row_bytes);
  LookBack state;
  const std::vector<uint32_t> beyond = {0, 2, 3};
  EXPECT_THAT(client->SubmitTokens(beyond, {}, state, {{15, out}}, {}),
              StatusIs(Code::kInvalidArgument,
                       "token id 3 at position 2 is beyond the token map of 3 tokens"));
  EXPECT_EQ(state, LookBack());  // A refused chunk leaves the request where it was.

  const std::vector<uint32_t> tokens = {0, 2, 1};
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitTokens(tokens, {}, state, {{15, out}}, {}));
  ASSERT_THAT(ticket.WaitAll(), IsOk());
  ASSERT_OK_AND_ASSIGN(const RowHasher hasher, RowHasher::Create(client->geometry(), 1));
  std::vector<int64_t> ids(3 * 16);
  hasher.HashChunk(1, std::vector<uint32_t>{0, 1, 0}, {}, LookBack(), ids);
  std::vector<uint8_t> expected(row_bytes);
  for (size_t i = 0; i < ids.size(); ++i) {
    SynthRow(client->layout(), 0, 15, static_cast<uint64_t>(ids[i]), expected);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), &out[i * row_bytes])) << i;
  }
}

}  // namespace
}  // namespace engram

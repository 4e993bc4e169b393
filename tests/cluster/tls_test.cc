// Real servers and the real client over TLS: who gets in, who does not, and certificates that
// change.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "absl/time/clock.h"
#include "client/change_generations.h"
#include "client/client.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
constexpr absl::Duration kAsk = absl::Seconds(10);

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() {
    authority_.Issue("server", "DNS:localhost,IP:127.0.0.1");
    authority_.Issue("worker", "DNS:worker.gpu,URI:spiffe://cluster/ns/gpu/sa/worker");
    authority_.Issue("operator", "DNS:operator");
  }

  SecurityOptions Server() const {
    return {.certificate = authority_.Certificate("server"),
            .key = authority_.Key("server"),
            .client_ca = authority_.ca(),
            .lookup_names = {"*.gpu"},
            .publish_names = {"operator"}};
  }
  Credentials As(const std::string& name) const {
    return {.ca = authority_.ca(),
            .certificate = authority_.Certificate(name),
            .key = authority_.Key(name)};
  }
  static absl::Status Describe(const TestCluster& cluster, const Credentials& credentials) {
    return AskServers({cluster.addresses()[0]}, kAsk, credentials)[0].status;
  }
  static absl::Status ChangeSomething(const TestCluster& cluster, const Credentials& credentials) {
    return ActivateOn({cluster.addresses()[0]}, Sha256{}, kAsk, credentials)[0];
  }
  std::string Token(const std::string& name, const std::string& token) const {
    std::ofstream(authority_.File(name)) << token << "\n";
    return authority_.File(name);
  }

  TestAuthority authority_;
};

TEST_F(TlsTest, RowsComeWhole) {
  TestCluster cluster(2, 0, 1, Server());
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses(),
                                                           .credentials = As("worker"),
                                                           .io_threads = 2}));
  std::vector<uint8_t> out;
  // Smaller than a record, and larger than all that is read at once.
  for (const size_t count : {1u, 60u, 61u, 1000u, 20000u}) {
    const std::vector<int64_t> ids = RandomIds(*client, 1, count);
    ASSERT_THAT(LookUp(*client, 14, ids, out), IsOk());
    ExpectRows(14, ids, out);
  }
}

TEST_F(TlsTest, ManyLookupsAtOnceOfBothPriorities) {
  TestCluster cluster(2, 0, 1, Server());
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses(),
                                                           .credentials = As("worker")}));
  struct Under {
    std::vector<int64_t> ids;
    std::vector<uint8_t> out;
    Ticket ticket;
  };
  std::vector<Under> all(40);
  for (size_t i = 0; i < all.size(); ++i) {
    const bool prefill = i % 2 == 1;
    all[i].ids = RandomIds(*client, 0, prefill ? 9000 : 24);
    all[i].out.resize(all[i].ids.size() * client->layout().row_bytes());
    ASSERT_OK_AND_ASSIGN(all[i].ticket,
                         client->SubmitRows({{1, all[i].ids, all[i].out}},
                                            {.priority = prefill ? LookupPriority::kPrefill
                                                                 : LookupPriority::kDecode}));
  }
  for (Under& under : all) {
    ASSERT_THAT(under.ticket.WaitAll(), IsOk());
    ExpectRows(1, under.ids, under.out);
  }
}

TEST_F(TlsTest, WhoIsRefusedHearsWhy) {
  TestCluster cluster(1, 0, 1, Server());
  EXPECT_THAT(Describe(cluster, As("worker")), IsOk());
  EXPECT_THAT(Describe(cluster, As("operator")), IsOk());  // Who may publish may look up.
  authority_.Issue("stranger", "DNS:stranger");
  EXPECT_THAT(Describe(cluster, As("stranger")),
              StatusIs(Code::kPermissionDenied, "a certificate of stranger one may not look up"));
  EXPECT_THAT(Client::Connect({.servers = cluster.addresses(), .credentials = As("stranger")}),
              StatusIs(Code::kPermissionDenied, "may not look up"));
  EXPECT_THAT(ChangeSomething(cluster, As("worker")),
              StatusIs(Code::kPermissionDenied, "may not change what is served"));
  EXPECT_THAT(ChangeSomething(cluster, As("operator")), StatusIs(Code::kNotFound, ""));
  EXPECT_GE(cluster.server(0).security_counts().denied_calls, 3u);
}

TEST_F(TlsTest, WithoutTheRightCertificateThereIsNoConnection) {
  TestCluster cluster(1, 0, 1, Server());
  EXPECT_THAT(Describe(cluster, {.ca = authority_.ca()}),
              StatusIs(Code::kUnavailable, "may want another certificate of us"));
  EXPECT_THAT(Describe(cluster, {}), StatusIs(Code::kUnavailable, "may want TLS"));
  TestAuthority others;
  others.Issue("worker", "DNS:worker.gpu");
  EXPECT_THAT(Describe(cluster, {.ca = authority_.ca(),
                                 .certificate = others.Certificate("worker"),
                                 .key = others.Key("worker")}),
              StatusIs(Code::kUnavailable, "certificate of us"));
  authority_.Issue("late", "DNS:worker.gpu", -1);
  EXPECT_THAT(Describe(cluster, As("late")), StatusIs(Code::kUnavailable, "certificate of us"));
}

TEST_F(TlsTest, ServersThatAreNotWhoTheyShouldBe) {
  TestCluster cluster(1, 0, 1, Server());
  TestAuthority others;
  others.Issue("worker", "DNS:worker.gpu");
  Credentials credentials = As("worker");
  credentials.ca = others.ca();
  EXPECT_THAT(Describe(cluster, credentials), StatusIs(Code::kUnauthenticated, "not accepted"));
  EXPECT_THAT(Client::Connect({.servers = cluster.addresses(), .credentials = credentials}),
              StatusIs(Code::kUnauthenticated, "not accepted"));
  credentials = As("worker");
  credentials.server_name = "elsewhere";
  EXPECT_THAT(Describe(cluster, credentials),
              StatusIs(Code::kUnauthenticated, "hostname mismatch"));
  credentials.server_name = "localhost";
  EXPECT_THAT(Describe(cluster, credentials), IsOk());
  TestCluster plain(1);
  EXPECT_THAT(Describe(plain, As("worker")), StatusIs(Code::kUnauthenticated, "TLS"));
}

TEST_F(TlsTest, CredentialsThatCannotBeUsedAreNamed) {
  const auto why = [](const Credentials& credentials) {
    return Client::Connect({.servers = {"127.0.0.1:1"}, .credentials = credentials}).status();
  };
  EXPECT_THAT(why({.certificate = "a", .key = "b"}), StatusIs(kInvalid, "no authorities"));
  EXPECT_THAT(why({.ca = "a", .key = "b"}), StatusIs(kInvalid, "only one"));
  EXPECT_THAT(why({.ca = "/nowhere/ca"}), StatusIs(Code::kNotFound, "/nowhere/ca"));
  EXPECT_THAT(why({.ca = authority_.Key("worker")}),
              StatusIs(kInvalid, authority_.Key("worker") + " holds no certificate"));
  Credentials mixed = As("worker");
  mixed.key = authority_.Key("operator");
  EXPECT_THAT(why(mixed), StatusIs(kInvalid, "is not the key of"));
  EXPECT_THAT(why({.token = Token("empty", "")}), StatusIs(kInvalid, "is empty"));
}

TEST_F(TlsTest, TokensAreAnAlternative) {
  SecurityOptions options = Server();
  options.lookup_token = Token("lookup", "sesame");
  options.publish_token = Token("publish", "mellon");
  TestCluster cluster(1, 0, 1, options);
  const auto with = [&](const std::string& token) -> Credentials {
    return {.ca = authority_.ca(), .token = Token("mine", token)};
  };
  EXPECT_THAT(Describe(cluster, with("sesame")), IsOk());
  EXPECT_THAT(Describe(cluster, with("mellon")), IsOk());
  EXPECT_THAT(Describe(cluster, with("sesam")), StatusIs(Code::kPermissionDenied, "another token"));
  EXPECT_THAT(Describe(cluster, {.ca = authority_.ca()}),
              StatusIs(Code::kUnauthenticated, "neither certificate nor token"));
  EXPECT_THAT(ChangeSomething(cluster, with("sesame")), StatusIs(Code::kPermissionDenied, ""));
  EXPECT_THAT(ChangeSomething(cluster, with("mellon")), StatusIs(Code::kNotFound, ""));
  EXPECT_THAT(Describe(cluster, As("worker")), IsOk());
  // Another from now on, or soon.
  Token("lookup", "open");
  const absl::Time end = absl::Now() + kAsk;
  while (Describe(cluster, with("sesame")).ok() && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_THAT(Describe(cluster, with("open")), IsOk());
  EXPECT_THAT(Describe(cluster, with("sesame")), StatusIs(Code::kPermissionDenied, ""));
}

// A stream is a call like others: who may not look up gets no rows either.
TEST_F(TlsTest, ATokenInPlaintextGuardsStreamsToo) {
  SecurityOptions options;
  options.lookup_token = Token("lookup", "sesame");
  TestCluster cluster(1, 0, 1, options);
  EXPECT_THAT(Client::Connect({.servers = cluster.addresses()}),
              StatusIs(Code::kUnauthenticated, "neither certificate nor token"));
  ASSERT_OK_AND_ASSIGN(const auto client,
                       Client::Connect({.servers = cluster.addresses(),
                                        .credentials = {.token = Token("m", "sesame")}}));
  std::vector<uint8_t> out;
  const std::vector<int64_t> ids = RandomIds(*client, 0, 100);
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

// Certificates of both sides, and at last the authority, are replaced under load: lookups go on,
// over the connections that there are and over new ones.
TEST_F(TlsTest, RotationFailsNoLookup) {
  TestAuthority next;
  next.Issue("server", "DNS:localhost,IP:127.0.0.1");
  next.Issue("worker", "DNS:worker.gpu");
  const auto read = [](const std::string& path) {
    std::ifstream in(path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const auto put = [&](const std::string& name, const std::string& text) {
    std::ofstream(authority_.File("new")) << text;
    ASSERT_EQ(rename(authority_.File("new").c_str(), authority_.File(name).c_str()), 0);
  };
  TestCluster cluster(1, 0, 2, Server());
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.servers = cluster.addresses(),
                                                           .credentials = As("worker")}));
  std::atomic<bool> over{false};
  std::atomic<uint64_t> lookups{0};
  absl::Status failed;
  std::thread load([&] {
    std::vector<uint8_t> out;
    while (!over && failed.ok()) {
      const std::vector<int64_t> ids = RandomIds(*client, 0, 300);
      failed = LookUp(*client, 1, ids, out);
      if (failed.ok()) ExpectRows(1, ids, out);
      ++lookups;
    }
  });
  const auto reloads = [&](uint32_t server) {
    return cluster.server(server).security_counts().reloads_ok;
  };
  const auto await_reloads = [&](uint64_t first, uint64_t second) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while ((reloads(0) < first || reloads(1) < second) && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_GE(reloads(0), first);
    EXPECT_GE(reloads(1), second);
    absl::SleepFor(absl::Milliseconds(1500));  // until gRPC has read them again
  };
  put("ca.pem", read(authority_.ca()) + read(next.ca()));  // Both are known;
  await_reloads(1, 1);
  put("server.key", read(next.Key("server")));  // then certificates change;
  put("server.pem", read(next.Certificate("server")));
  put("worker.key", read(next.Key("worker")));
  put("worker.pem", read(next.Certificate("worker")));
  await_reloads(2, 2);
  put("ca.pem", read(next.ca()));  // and the old authority is gone.
  await_reloads(3, 3);
  // New connections, one server at a time. (One that has come back may be put aside for its first
  // answers' lateness: what counts here is that it is connected.)
  const auto await_gone = [&](uint64_t servers) {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (client->stats().gone_servers != servers && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_EQ(client->stats().gone_servers, servers);
  };
  for (const uint32_t server : {0u, 1u}) {
    cluster.Kill(server);
    await_gone(1);
    cluster.Start(server);
    await_gone(0);
  }
  over = true;
  load.join();
  EXPECT_THAT(failed, IsOk());
  EXPECT_GT(lookups, 50u);
  EXPECT_THAT(Describe(cluster, As("worker")), IsOk());
}

}  // namespace
}  // namespace engram

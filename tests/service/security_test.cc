// Who may call: names, tokens, and options that make no sense.
#include "service/security.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "absl/time/clock.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

TEST(SecurityTest, NamesMatchAsTheyStand) {
  EXPECT_TRUE(NameMatches("worker.gpu", "worker.gpu"));
  EXPECT_TRUE(NameMatches("Worker.GPU", "worker.gpu"));
  EXPECT_FALSE(NameMatches("worker.gpu", "worker.gpu.evil"));
  EXPECT_FALSE(NameMatches("worker.gpu", "a.worker.gpu"));
  EXPECT_TRUE(NameMatches("127.0.0.1", "127.0.0.1"));
  EXPECT_TRUE(NameMatches("spiffe://a/sa/w", "spiffe://a/sa/w"));
  EXPECT_FALSE(NameMatches("spiffe://a/sa/W", "spiffe://a/sa/w"));
}

TEST(SecurityTest, AStarIsOneLabelOrWhateverComesBehind) {
  EXPECT_TRUE(NameMatches("*.gpu", "worker.gpu"));
  EXPECT_FALSE(NameMatches("*.gpu", "a.worker.gpu"));
  EXPECT_FALSE(NameMatches("*.gpu", ".gpu"));
  EXPECT_FALSE(NameMatches("*.gpu", "gpu"));
  EXPECT_TRUE(NameMatches("spiffe://a/*", "spiffe://a/ns/b/sa/c"));
  EXPECT_FALSE(NameMatches("spiffe://a/*", "spiffe://a/"));
  EXPECT_FALSE(NameMatches("spiffe://a/*", "spiffe://ab/c"));
}

TEST(SecurityTest, PlaintextIsForThisHostAlone) {
  SecurityOptions options;
  for (const char* local : {"127.0.0.1:1", "127.9.9.9:0", "localhost:1", "[::1]:5", "unix:/x"}) {
    EXPECT_THAT(options.Validate(local), IsOk()) << local;
  }
  for (const char* open : {"0.0.0.0:1", "[::]:1", "10.0.0.1:5", "emb:50051", "1270.0.0.1:1"}) {
    EXPECT_THAT(options.Validate(open), StatusIs(kInvalid, "--insecure")) << open;
  }
  options.insecure = true;
  EXPECT_THAT(options.Validate("0.0.0.0:1"), IsOk());
}

TEST(SecurityTest, OptionsThatMakeNoSenseAreNamed) {
  const auto why = [](SecurityOptions options) { return options.Validate("unix:/x"); };
  EXPECT_THAT(why({.certificate = "a"}), StatusIs(kInvalid, "without a key"));
  EXPECT_THAT(why({.key = "a"}), StatusIs(kInvalid, "without a certificate"));
  EXPECT_THAT(why({.client_ca = "a"}), StatusIs(kInvalid, "no TLS certificate"));
  EXPECT_THAT(why({.certificate = "a", .key = "b", .lookup_names = {"x"}}),
              StatusIs(kInvalid, "--tls-client-ca"));
  const auto name = [&](const std::string& each) {
    return why({.certificate = "a", .key = "b", .client_ca = "c", .publish_names = {each}});
  };
  EXPECT_THAT(name("*.x"), IsOk());
  EXPECT_THAT(name("spiffe://x/*"), IsOk());
  for (const char* wrong : {"", "*", "a*", "*x", "a.*.b", "*.", "x/*/y"}) {
    EXPECT_THAT(name(wrong), StatusIs(kInvalid, "--publish-names")) << wrong;
  }
}

class SecurityFilesTest : public ::testing::Test {
 protected:
  SecurityFilesTest() {
    authority_.Issue("server", "DNS:localhost");
    authority_.Issue("other", "DNS:localhost");
  }
  absl::Status Try(const std::string& certificate, const std::string& key,
                   const std::string& ca = "") {
    return Security::Create({.certificate = certificate, .key = key, .client_ca = ca}, "unix:/x")
        .status();
  }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(authority_.File(name)) << text;
    return authority_.File(name);
  }
  TestAuthority authority_;
};

TEST_F(SecurityFilesTest, FilesThatCannotBeUsedAreNamed) {
  const std::string certificate = authority_.Certificate("server"), key = authority_.Key("server");
  EXPECT_THAT(Try(certificate, key, authority_.ca()), IsOk());
  EXPECT_THAT(Try(authority_.File("none"), key),
              StatusIs(absl::StatusCode::kNotFound, authority_.File("none")));
  EXPECT_THAT(Try(certificate, authority_.Key("other")),
              StatusIs(kInvalid, "not that of the certificate"));
  EXPECT_THAT(Try(key, key), StatusIs(kInvalid, "no certificate"));
  EXPECT_THAT(Try(certificate, certificate), StatusIs(kInvalid, "no private key"));
  EXPECT_THAT(Try(certificate, key, Write("junk", "junk")), StatusIs(kInvalid, "junk"));
  std::ifstream whole(certificate);
  const std::string pem(std::istreambuf_iterator<char>(whole), {});
  EXPECT_THAT(Try(Write("half", pem + pem.substr(0, pem.size() / 2)), key),
              StatusIs(kInvalid, "damaged"));
  authority_.Issue("old", "DNS:localhost", -1);
  EXPECT_THAT(Try(authority_.Certificate("old"), authority_.Key("old")),
              StatusIs(absl::StatusCode::kFailedPrecondition, "has ended at"));
  EXPECT_THAT(Security::Create({.lookup_token = Write("empty", " \n")}, "unix:/x"),
              StatusIs(kInvalid, "is empty"));
}

// What was read before goes on; what can be used is taken.
TEST_F(SecurityFilesTest, ReplacedFilesAreTakenOrRefused) {
  const std::string certificate = Write("now.pem", ""), key = Write("now.key", "");
  const auto put = [&](const std::string& from, const std::string& to) {
    std::ifstream in(from);
    const std::string text(std::istreambuf_iterator<char>(in), {});
    std::ofstream(to + ".new") << text;
    ASSERT_EQ(rename((to + ".new").c_str(), to.c_str()), 0);
  };
  put(authority_.Certificate("server"), certificate);
  put(authority_.Key("server"), key);
  ASSERT_OK_AND_ASSIGN(const auto security,
                       Security::Create({.certificate = certificate, .key = key}, "unix:/x"));
  const SecurityCounts before = security->counts();
  EXPECT_GT(before.certificate_expiry_s, absl::ToUnixSeconds(absl::Now()));
  const auto wait = [&](auto condition) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (!condition(security->counts()) && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    return condition(security->counts());
  };
  put(authority_.Key("other"), key);
  EXPECT_TRUE(wait([](const SecurityCounts& counts) { return counts.reloads_failed == 1; }));
  EXPECT_EQ(security->counts().certificate_expiry_s, before.certificate_expiry_s);
  authority_.Issue("other", "DNS:localhost", 2);
  put(authority_.Key("other"), key);
  put(authority_.Certificate("other"), certificate);
  EXPECT_TRUE(wait([&](const SecurityCounts& counts) {
    return counts.reloads_ok >= 1 && counts.certificate_expiry_s > before.certificate_expiry_s;
  }));
}

}  // namespace
}  // namespace engram

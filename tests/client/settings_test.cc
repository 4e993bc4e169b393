#include "client/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;

const std::string kDigest(64, 'a');

absl::StatusOr<ClientSettings> FromEnvironment(std::vector<const char*> variables) {
  variables.push_back(nullptr);
  return SettingsFromEnvironment(variables.data());
}

// Every field at a value that is not its default.
void ExpectAll(const ClientSettings& settings) {
  const ClientOptions& client = settings.client;
  EXPECT_THAT(client.servers, ElementsAre("a:1", "unix:/b"));
  EXPECT_EQ(ToHex(*client.expect_digest), kDigest);
  EXPECT_TRUE(client.allow_partial);
  EXPECT_EQ(settings.missing_rows, MissingRows::kZeros);
  EXPECT_EQ(client.connect_timeout, absl::Microseconds(11));
  EXPECT_EQ(settings.lookup_timeout, absl::Microseconds(12));
  EXPECT_EQ(client.resolve_interval, absl::Microseconds(13));
  EXPECT_EQ(client.verify_share, 0.25);
  EXPECT_EQ(client.credit_bytes, 14u);
  EXPECT_EQ(client.rows_per_request, 15u);
  EXPECT_EQ(client.io_threads, 2u);
  EXPECT_EQ(client.max_prefetch_bytes, 16u);
  EXPECT_EQ(client.cache_bytes, uint64_t{1} << 40);
  EXPECT_EQ(client.cache_columns, (ColumnRange{3, 6}));
  EXPECT_EQ(client.hot_ngrams, "file");
  EXPECT_FALSE(client.dedup);
  EXPECT_EQ(client.spin, absl::Microseconds(17));
  EXPECT_THAT(client.cpus, ElementsAre(0, 2));
  EXPECT_EQ(client.hedge_share, 0);
  EXPECT_EQ(client.hedge_after_least, absl::Microseconds(18));
  EXPECT_FALSE(client.follow_generations);
  EXPECT_EQ(client.follow_interval, absl::Microseconds(19));
  EXPECT_EQ(client.credentials.ca, "ca");
  EXPECT_EQ(client.credentials.certificate, "cert");
  EXPECT_EQ(client.credentials.key, "key");
  EXPECT_EQ(client.credentials.server_name, "name");
  EXPECT_EQ(client.credentials.token, "token");
}

TEST(Settings, EveryFieldComesFromJson) {
  const std::string json =
      absl::StrCat(R"({"servers": ["a:1", "unix:/b"], "expect_digest": ")", kDigest,
                   R"(", "allow_partial": true, "missing_rows": "zeros", "connect_timeout_us": 11,
      "lookup_timeout_us": 12, "resolve_interval_us": 13, "verify_share": 0.25,
      "credit_bytes": 14, "rows_per_request": 15, "io_threads": 2, "max_prefetch_bytes": 16,
      "cache_bytes": 1099511627776, "cache_columns": [3, 6], "hot_ngrams": "file",
      "dedup": false, "spin_us": 17, "cpus": [0, 2], "hedge_share": 0,
      "hedge_after_least_us": 18, "follow_generations": false,
      "follow_interval_us": 19, "tls_ca": "ca", "tls_certificate": "cert", "tls_key": "key",
      "tls_server_name": "name", "token_file": "token"})");
  ASSERT_OK_AND_ASSIGN(const ClientSettings settings, SettingsFromJson(json, "settings"));
  ExpectAll(settings);
  for (const std::string& name : SettingNames()) {
    EXPECT_NE(json.find(absl::StrCat("\"", name, "\"")), std::string::npos) << name;
  }
}

TEST(Settings, EveryFieldComesFromTheEnvironment) {
  const std::string digest = "ENGRAM_EXPECT_DIGEST=" + kDigest;
  ASSERT_OK_AND_ASSIGN(const ClientSettings settings,
                       FromEnvironment({"ENGRAM_SERVERS=a:1,unix:/b",
                                        digest.c_str(),
                                        "ENGRAM_ALLOW_PARTIAL=true",
                                        "ENGRAM_MISSING_ROWS=zeros",
                                        "ENGRAM_CONNECT_TIMEOUT_US=11",
                                        "ENGRAM_LOOKUP_TIMEOUT_US=12",
                                        "ENGRAM_RESOLVE_INTERVAL_US=13",
                                        "ENGRAM_VERIFY_SHARE=0.25",
                                        "ENGRAM_CREDIT_BYTES=14",
                                        "ENGRAM_ROWS_PER_REQUEST=15",
                                        "ENGRAM_IO_THREADS=2",
                                        "ENGRAM_MAX_PREFETCH_BYTES=16",
                                        "ENGRAM_CACHE_BYTES=1099511627776",
                                        "ENGRAM_CACHE_COLUMNS=3,6",
                                        "ENGRAM_HOT_NGRAMS=file",
                                        "ENGRAM_DEDUP=false",
                                        "ENGRAM_SPIN_US=17",
                                        "ENGRAM_CPUS=0,2",
                                        "ENGRAM_HEDGE_SHARE=0",
                                        "ENGRAM_HEDGE_AFTER_LEAST_US=18",
                                        "ENGRAM_FOLLOW_GENERATIONS=false",
                                        "ENGRAM_FOLLOW_INTERVAL_US=19",
                                        "ENGRAM_TLS_CA=ca",
                                        "ENGRAM_TLS_CERTIFICATE=cert",
                                        "ENGRAM_TLS_KEY=key",
                                        "ENGRAM_TLS_SERVER_NAME=name",
                                        "ENGRAM_TOKEN_FILE=token",
                                        "PATH=/bin",
                                        "ENGRAMS=3"}));
  ExpectAll(settings);
}

TEST(Settings, WhatIsNotSaidIsTheDefault) {
  ASSERT_OK_AND_ASSIGN(const ClientSettings settings,
                       SettingsFromJson(R"({"servers": "a:1,b:2"})", "settings"));
  EXPECT_THAT(settings.client.servers, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(settings.lookup_timeout, absl::Seconds(10));
  EXPECT_EQ(settings.client.hedge_share, ClientOptions().hedge_share);
  EXPECT_EQ(settings.missing_rows, MissingRows::kFail);
}

TEST(Settings, AClientFollowsOrIsPinned) {
  ASSERT_OK_AND_ASSIGN(
      const ClientSettings settings,
      SettingsFromJson(R"({"servers": "a:1", "follow_generations": true})", "settings"));
  EXPECT_TRUE(settings.client.follow_generations);
  EXPECT_THAT(SettingsFromJson(absl::StrCat(R"({"servers": "a:1", "expect_digest": ")", kDigest,
                                            R"(", "follow_generations": true})"),
                               "settings"),
              StatusIs(absl::StatusCode::kInvalidArgument, "`follow_generations`"));
}

TEST(Settings, AVariableGoesBeforeTheConfiguration) {
  ASSERT_OK_AND_ASSIGN(
      const ClientSettings settings,
      FromEnvironment({"ENGRAM_IO_THREADS=3",
                       R"(ENGRAM_CONFIG={"servers": ["a:1"], "io_threads": 2, "spin_us": 5})"}));
  EXPECT_EQ(settings.client.io_threads, 3u);
  EXPECT_EQ(settings.client.spin, absl::Microseconds(5));
}

TEST(Settings, WhatIsWrongIsNamed) {
  const struct {
    const char* json;
    const char* message;
  } kCases[] = {
      {"{", "settings is not valid JSON"},
      {"[]", "settings holds a JSON array, not an object"},
      {R"({"spin_us": 1, "spin_us": 2})", "key `spin_us` appears twice"},
      {R"({"Servers": []})", "field `Servers` is not a setting; those are servers, expect_digest"},
      {R"({"servers": 1})", "field `servers` is not a list of strings"},
      {R"({"servers": [1]})", "field `servers` is not a string"},
      {R"({"servers": []})", "`servers` names no server"},
      {R"({"expect_digest": "12"})", "field `expect_digest` "},
      {R"({"allow_partial": 1})", "field `allow_partial` is not true or false"},
      {R"({"missing_rows": "none"})", "field `missing_rows` is not \"fail\" or \"zeros\""},
      {R"({"spin_us": -1})", "field `spin_us` is not a whole number from 0 to"},
      {R"({"spin_us": 1.5})", "field `spin_us` is not a whole number"},
      {R"({"spin_us": "5"})", "field `spin_us` is not a whole number"},
      {R"({"spin_us": 18446744073709551615})", "field `spin_us` is not a whole number"},
      {R"({"io_threads": 4294967296})", "field `io_threads` is not a whole number"},
      {R"({"servers": "a:1", "io_threads": 65})", "`io_threads` is not in [1, 64]"},
      {R"({"verify_share": "all"})", "field `verify_share` is not a number"},
      {R"({"servers": "a:1", "verify_share": 2})", "`verify_share` is not in [0, 1]"},
      {R"({"cache_columns": [1]})", "field `cache_columns` is not two numbers"},
      {R"({"cpus": {}})", "field `cpus` is not a list of whole numbers"},
      {R"({"cpus": [-1]})", "field `cpus` is not a whole number"},
      {R"({"cpus": "0,x"})", "field `cpus` is not a list of whole numbers"},
      {R"({"servers": "a:1", "lookup_timeout_us": 0})", "`lookup_timeout` is not positive"},
      {R"({"servers": null})", "field `servers` is not a list"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(SettingsFromJson(test.json, "settings"), StatusIs(kInvalid, test.message));
  }
  EXPECT_THAT(FromEnvironment({"ENGRAM_SERVER=a:1"}),
              StatusIs(kInvalid,
                       "environment variable ENGRAM_SERVER is not a setting; those are "
                       "ENGRAM_CONFIG and ENGRAM_ with SERVERS, EXPECT_DIGEST"));
  EXPECT_THAT(FromEnvironment({"ENGRAM_spin_us=5"}), StatusIs(kInvalid, "ENGRAM_spin_us is not"));
  EXPECT_THAT(FromEnvironment({"ENGRAM_SPIN_US=fast"}),
              StatusIs(kInvalid, "environment variable ENGRAM_SPIN_US is not a whole number"));
  EXPECT_THAT(FromEnvironment({"ENGRAM_DEDUP=1"}),
              StatusIs(kInvalid, "environment variable ENGRAM_DEDUP is not true or false"));
  EXPECT_THAT(FromEnvironment({"ENGRAM_CONFIG={\"x\": 1}"}),
              StatusIs(kInvalid, "ENGRAM_CONFIG: field `x` is not a setting"));
  EXPECT_THAT(FromEnvironment({}), StatusIs(kInvalid, "`servers` names no server"));
}

}  // namespace
}  // namespace engram

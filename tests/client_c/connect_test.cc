// Options in their three spellings, the table, what servers lack, metrics.
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "tests/client_c/c_fixture.h"
#include "tests/support/temp_path.h"

namespace engram {
namespace {

using testing::ElementsAre;

TEST_F(ClientCTest, SaysWhatTheTableIs) {
  engram_table_info table = ENGRAM_TABLE_INFO_INIT;
  ASSERT_FINE(engram_client_table(client_.get(), &table));
  EXPECT_STREQ(table.model, "fake");
  EXPECT_EQ(std::string(table.digest), std::string(64, '0'));
  EXPECT_THAT(std::vector<uint32_t>(table.layers, table.layers + table.layer_count),
              ElementsAre(1, 14));
  EXPECT_EQ(table.columns, kFakeColumns);
  EXPECT_EQ(table.max_ngram, 3u);
  EXPECT_EQ(table.heads, 3u);
  EXPECT_EQ(table.row_bytes, 264u);
  EXPECT_EQ(table.value_type, ENGRAM_VALUE_FP8_E4M3);
  EXPECT_EQ(table.values, 256u);
  EXPECT_EQ(table.value_bytes, 256u);
  EXPECT_EQ(table.scale_type, ENGRAM_SCALE_UE8M0);
  EXPECT_EQ(table.scales, 8u);
  EXPECT_EQ(table.hash_rule, ENGRAM_HASH_ENGRAM);
  EXPECT_EQ(table.pad_token, 2u);
  EXPECT_EQ(table.compressed_vocab, kFakeCompressed);
  EXPECT_EQ(table.token_map_tokens, kFakeTokens);
  const engram_layer_info first = Layer(1), second = Layer(14);
  EXPECT_EQ(first.layer, 1u);
  EXPECT_EQ(first.column_count, kFakeColumns);
  EXPECT_EQ(first.rows + second.rows, table.total_rows);
  uint64_t rows = 0;
  for (uint32_t i = 0; i < kFakeColumns; ++i) {
    EXPECT_EQ(first.column_first[i], rows);
    EXPECT_GE(first.column_rows[i], 1000u);
    rows += first.column_rows[i];
  }
  EXPECT_EQ(rows, first.rows);
  EXPECT_EQ(first.multiplier_count, 3u);
  EXPECT_NE(first.multipliers[0], second.multipliers[0]);
  engram_layer_info info = ENGRAM_LAYER_INFO_INIT;
  EXPECT_THAT(Said(engram_client_layer(client_.get(), 2, &info)), Is(ENGRAM_NOT_FOUND, "layer 2"));
  const uint32_t* map = nullptr;
  size_t tokens = 0;
  ASSERT_FINE(engram_client_token_map(client_.get(), &map, &tokens));
  EXPECT_EQ(tokens, kFakeTokens);
  EXPECT_EQ(map[61], 1u);
}

TEST_F(ClientCTest, WrongOptionsAreNamed) {
  const struct {
    void (*change)(engram_client_options&);
    const char* message;
  } kCases[] = {
      {[](engram_client_options& o) { o.server_count = 0; }, "`servers` names no server"},
      {[](engram_client_options& o) { o.expect_digest = "12"; }, "hex"},
      {[](engram_client_options& o) { o.missing_rows = 3; }, "`missing_rows` is 3"},
      {[](engram_client_options& o) { o.connect_timeout_us = 0; }, "`connect_timeout`"},
      {[](engram_client_options& o) { o.lookup_timeout_us = 0; }, "`lookup_timeout`"},
      {[](engram_client_options& o) { o.resolve_interval_us = -1; }, "`resolve_interval`"},
      {[](engram_client_options& o) { o.verify_share = 1.5; }, "`verify_share`"},
      {[](engram_client_options& o) { o.credit_bytes = 0; }, "`credit_bytes`"},
      {[](engram_client_options& o) { o.rows_per_request = 0; }, "`rows_per_request`"},
      {[](engram_client_options& o) { o.io_threads = 65; }, "`io_threads`"},
      {[](engram_client_options& o) { o.hot_ngrams = "file"; }, "`hot_ngrams`"},
      {[](engram_client_options& o) { o.spin_us = -1; }, "`spin`"},
      {[](engram_client_options& o) { o.cpu_count = 1; }, "`cpus` is NULL"},
      {[](engram_client_options& o) { o.hedge_share = -1; }, "`hedge_share`"},
      {[](engram_client_options& o) { o.hedge_after_least_us = -1; }, "`hedge_after_least`"},
  };
  const char* const servers[] = {"127.0.0.1:1"};
  for (const auto& test : kCases) {
    engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
    options.servers = servers;
    options.server_count = 1;
    test.change(options);
    engram_client* client = nullptr;
    EXPECT_THAT(Said(engram_client_connect(&options, &client)), IsInvalid(test.message));
    EXPECT_EQ(client, nullptr);
  }
}

TEST_F(ClientCTest, ServersThatAreNotThere) {
  const char* const servers[] = {"127.0.0.1:1"};
  engram_client_options options = {};
  ASSERT_FINE(engram_client_options_init(&options));
  options.servers = servers;
  options.server_count = 1;
  options.connect_timeout_us = 20'000;
  engram_client* client = nullptr;
  EXPECT_THAT(Said(engram_client_connect(&options, &client)),
              Is(ENGRAM_UNAVAILABLE, "127.0.0.1:1"));
  Connect(ENGRAM_CLIENT_OPTIONS_INIT);
  const std::string address = cluster_.addresses()[0];
  const std::string digest(64, '1');
  const char* const one[] = {address.c_str()};
  options.connect_timeout_us = 20'000'000;
  options.servers = one;
  options.expect_digest = digest.c_str();
  EXPECT_THAT(Said(engram_client_connect(&options, &client)),
              Is(ENGRAM_FAILED_PRECONDITION, digest));
}

TEST_F(ClientCTest, SavesHotNgrams) {
  const std::string file = TempPath("hot");
  EXPECT_THAT(Said(engram_client_save_hot_ngrams(nullptr, "file")), IsInvalid("`client` is NULL"));
  EXPECT_THAT(Said(engram_client_save_hot_ngrams(client_.get(), nullptr)),
              IsInvalid("`path` is NULL"));
  EXPECT_THAT(Said(engram_client_save_hot_ngrams(client_.get(), file.c_str())),
              Is(ENGRAM_FAILED_PRECONDITION, "cache"));
  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  options.cache_bytes = 1 << 20;
  Connect(options);
  ASSERT_FINE(engram_client_save_hot_ngrams(client_.get(), file.c_str()));
  options.hot_ngrams = file.c_str();
  Connect(options);
  unlink(file.c_str());
}

TEST_F(ClientCTest, JsonAndEnvironmentConnectToo) {
  const std::string servers = absl::StrJoin(cluster_.addresses(), ",");
  engram_client* client = nullptr;
  ASSERT_FINE(engram_client_connect_json(
      absl::StrCat("{\"servers\": [\"", absl::StrJoin(cluster_.addresses(), "\", \""),
                   "\"], \"io_threads\": 2}")
          .c_str(),
      nullptr, nullptr, &client));
  engram_client_destroy(client);
  EXPECT_THAT(Said(engram_client_connect_json("{\"server\": []}", nullptr, nullptr, &client)),
              IsInvalid("field `server` is not a setting"));
  EXPECT_THAT(Said(engram_client_connect_json("{", nullptr, nullptr, &client)),
              IsInvalid("is not valid JSON"));
  // The runner's own variables are not the client's.
  std::vector<std::string> others;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string name = *variable;
    if (name.starts_with("ENGRAM_")) others.push_back(name.substr(0, name.find('=')));
  }
  for (const std::string& name : others) unsetenv(name.c_str());
  setenv("ENGRAM_SERVERS", servers.c_str(), 1);
  ASSERT_FINE(engram_client_connect_env(nullptr, nullptr, &client));
  engram_client_destroy(client);
  setenv("ENGRAM_SERVRS", "x", 1);
  EXPECT_THAT(Said(engram_client_connect_env(nullptr, nullptr, &client)),
              IsInvalid("environment variable ENGRAM_SERVRS is not a setting"));
  unsetenv("ENGRAM_SERVRS");
  unsetenv("ENGRAM_SERVERS");
}

TEST_F(ClientCTest, SaysWhichRowsAreMissing) {
  engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
  options.allow_partial = 1;
  const std::string address = cluster_.addresses()[0];
  const char* const servers[] = {address.c_str()};
  options.servers = servers;
  options.server_count = 1;
  engram_client* made = nullptr;
  ASSERT_FINE(engram_client_connect(&options, &made));
  const ClientPtr partial(made);
  uint64_t missing = 0;
  ASSERT_FINE(engram_client_missing_ranges(
      partial.get(),
      [](void* user, uint32_t, uint64_t begin, uint64_t end) {
        *static_cast<uint64_t*>(user) += end - begin;
      },
      &missing));
  engram_table_info table = ENGRAM_TABLE_INFO_INIT;
  ASSERT_FINE(engram_client_table(client_.get(), &table));
  EXPECT_NEAR(static_cast<double>(missing), static_cast<double>(table.total_rows) * 2 / 3, 3);

  EXPECT_THAT(Said(engram_client_set_servers(partial.get(), servers, 0)), IsInvalid("`servers`"));
  const std::vector<std::string> all = cluster_.addresses();
  const char* const three[] = {all[0].c_str(), all[1].c_str(), all[2].c_str()};
  ASSERT_FINE(engram_client_set_servers(partial.get(), three, 3));
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (missing > 0 && absl::Now() < deadline) {
    missing = 0;
    ASSERT_FINE(engram_client_missing_ranges(
        partial.get(),
        [](void* user, uint32_t, uint64_t, uint64_t) { ++*static_cast<uint64_t*>(user); },
        &missing));
  }
  EXPECT_EQ(missing, 0u);
}

using Samples = std::map<std::string, double>;

TEST_F(ClientCTest, MetricsAreVisited) {
  const auto visit = [](void* user, const engram_metric* metric) {
    std::string name = metric->name;
    EXPECT_EQ(metric->struct_size, sizeof(engram_metric));
    EXPECT_THAT(name, testing::StartsWith("engram_client_"));
    EXPECT_EQ(testing::Value(name, testing::EndsWith("_total")),
              metric->kind == ENGRAM_METRIC_COUNTER)
        << name;
    EXPECT_STRNE(metric->help, "");
    for (size_t i = 0; i < metric->label_count; ++i) {
      absl::StrAppend(&name, " ", metric->labels[i].name, "=", metric->labels[i].value);
    }
    EXPECT_TRUE(static_cast<Samples*>(user)->emplace(name, metric->value).second) << name;
  };
  Samples before;
  ASSERT_FINE(engram_client_visit_metrics(client_.get(), visit, &before));
  for (const char* const name :
       {"requests_total", "retries_total", "hedges_total", "hedges_won_total", "ejections_total",
        "shed_total", "degraded_tokens_total", "verified_rows_total", "checksum_failures_total",
        "row_bytes_total", "cache_bytes", "prefetch_bytes", "missing_rows"}) {
    EXPECT_EQ(before.at(absl::StrCat("engram_client_", name)), 0) << name;
  }
  for (const char* const name : {"ngrams_total", "ngrams_duplicate_total", "ngrams_cached_total"}) {
    EXPECT_EQ(before.at(absl::StrCat("engram_client_", name, " layer=14 order=3")), 0) << name;
  }
  EXPECT_EQ(before.at(absl::StrCat("engram_client_info version=", engram_version(),
                                   " model=fake digest=", std::string(64, '0'))),
            1);

  const std::vector<int64_t> ids = {0, 1, 2};
  std::vector<uint8_t> out(3 * kFakeRowBytes);
  const engram_rows rows = {1, 0, ids.data(), 3, out.data(), out.size()};
  ASSERT_FINE(engram_client_submit_rows(client_.get(), &rows, 1, nullptr, ticket_.get()));
  ASSERT_FINE(engram_ticket_wait_all(ticket_.get(), ENGRAM_FOREVER));
  Samples after;
  ASSERT_FINE(engram_client_visit_metrics(client_.get(), visit, &after));
  EXPECT_EQ(after.at("engram_client_requests_total"), 1);
  EXPECT_EQ(after.at("engram_client_row_bytes_total"), 3 * kFakeRowBytes);
}

}  // namespace
}  // namespace engram

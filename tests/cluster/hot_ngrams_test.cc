// A client whose cache is filled before its first lookup.
#include "proto/hot_ngrams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/client.h"
#include "client/slot.h"
#include "proto/base/file.h"
#include "proto/hot_keys.h"
#include "tests/cluster/fake_cluster.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_path.h"

namespace engram {
namespace {

using Code = absl::StatusCode;

constexpr uint64_t kCacheBytes = 4 << 20;

class HotNgramsTest : public testing::Test {
 protected:
  // Those of a sequence of all token ids, written to a file.
  void SetUp() override {
    std::vector<uint32_t> map(kFakeTokens);
    for (uint32_t i = 0; i < kFakeTokens; ++i) map[i] = i % kFakeCompressed;
    hot_.token_map = TokenMap::Create(map)->sha256();
    for (uint32_t i = 0; i + 2 < kFakeCompressed; ++i) {
      hot_.ngrams.push_back({9, 2, {i, i + 1}});
      hot_.ngrams.push_back({5, 3, {i, i + 1, i + 2}});
    }
    Write();
  }
  void Write() const { ASSERT_THAT(WriteHotNgrams(path_, hot_), IsOk()); }

  absl::StatusOr<std::unique_ptr<Client>> Connect(ColumnRange columns = {}) const {
    return cluster_.Connect({.servers = {},
                             .io_threads = 2,
                             .cache_bytes = kCacheBytes,
                             .cache_columns = columns,
                             .hot_ngrams = path_});
  }

  const FakeCluster cluster_{2};
  const std::string path_ = TempPath("hot_ngrams_cluster_test");
  HotNgrams hot_;
};

TEST_F(HotNgramsTest, AreThereBeforeTheFirstLookup) {
  std::vector<uint32_t> tokens;
  for (uint32_t i = 0; i < kFakeCompressed - 1; ++i) tokens.push_back(i);
  for (const ColumnRange columns : {ColumnRange{}, ColumnRange{2, 5}}) {
    ASSERT_OK_AND_ASSIGN(const auto client, Connect(columns));
    const uint64_t filled = client->stats().row_bytes;
    // On each of the two threads.
    for (int i = 0; i < 2; ++i) {
      const SlotOptions options{.max_tokens = 100, .columns = columns};
      ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client, options));
      LookBack state;
      const StepChunk chunk{.tokens = tokens, .state = &state};
      ASSERT_THAT(slot->SubmitTokens({&chunk, 1}, {}), IsOk());
      ASSERT_THAT(slot->WaitAll(), IsOk());
      for (const uint32_t layer : {1u, 14u}) {
        ExpectRows(*slot, options, layer, HashWhole(*client, layer, tokens));
      }
    }
    // But for the n-grams that reach back before the start.
    EXPECT_LE(client->stats().row_bytes - filled, 2u * 2 * 3 * 6 * kFakeRowBytes);
    // Of one head's rows, two n-grams may share one.
    uint64_t spared = 0, looked_at = 0;
    for (const NgramStats& order : client->stats().ngrams) {
      spared += order.cached + order.duplicates;
      looked_at += order.looked_at;
    }
    EXPECT_EQ(looked_at, 2u * 2 * 2 * tokens.size()) << "filling is no asking";
    EXPECT_EQ(spared, looked_at - 2 * 2 * 3);
  }
}

TEST_F(HotNgramsTest, OfAnotherModelAreRefused) {
  hot_.ngrams[3].ids[0] = kFakeCompressed;
  Write();
  EXPECT_THAT(Connect(), StatusIs(Code::kInvalidArgument, "compressed id 60 is beyond"));
  hot_.ngrams[3] = {1, 4, {1, 2, 3, 4}};
  Write();
  EXPECT_THAT(Connect(), StatusIs(Code::kInvalidArgument, "one of 4 tokens"));
  hot_.token_map[0] ^= 1;
  Write();
  EXPECT_THAT(Connect(), StatusIs(Code::kFailedPrecondition, "are of token map"));
  ASSERT_THAT(WriteFileAtomically(path_, "something"), IsOk());
  EXPECT_THAT(Connect(), StatusIs(Code::kInvalidArgument, "is no such file"));
  EXPECT_THAT(cluster_.Connect({.servers = {}, .hot_ngrams = path_}),
              StatusIs(Code::kInvalidArgument, "`hot_ngrams` is given, but `cache_bytes` is 0"));
}

// What one client has met is there for the next one.
TEST_F(HotNgramsTest, AreSavedByAClient) {
  std::vector<uint32_t> tokens;
  for (uint32_t i = 0; i < kFakeCompressed - 1; ++i) tokens.push_back(i);
  const auto connect = [&](const std::string& hot, ColumnRange columns = {}) {
    return cluster_.Connect({.servers = {},
                             .io_threads = 2,
                             .cache_bytes = kCacheBytes,
                             .cache_columns = columns,
                             .hot_ngrams = hot});
  };
  const auto ask = [&](const Client& client, ColumnRange columns) {
    const SlotOptions options{.max_tokens = 100, .columns = columns};
    ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(client, options));
    LookBack state;
    const StepChunk chunk{.tokens = tokens, .state = &state};
    ASSERT_THAT(slot->SubmitTokens({&chunk, 1}, {}), IsOk());
    ASSERT_THAT(slot->WaitAll(), IsOk());
    for (const uint32_t layer : {1u, 14u}) {
      ExpectRows(*slot, options, layer, HashWhole(client, layer, tokens));
    }
  };
  for (const ColumnRange columns : {ColumnRange{}, ColumnRange{2, 5}}) {
    ASSERT_OK_AND_ASSIGN(const auto first, connect("", columns));
    // The second thread has met nothing.
    ASSERT_NO_FATAL_FAILURE(ask(*first, columns));
    ASSERT_THAT(first->SaveHotNgrams(path_), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto second, connect(path_, columns));
    const uint64_t filled = second->stats().row_bytes;
    EXPECT_GT(filled, 0u);
    for (int thread = 0; thread < 2; ++thread) ASSERT_NO_FATAL_FAILURE(ask(*second, columns));
    EXPECT_EQ(second->stats().row_bytes, filled) << "all of it was there";
  }
}

TEST_F(HotNgramsTest, OfAnotherTableAreRefused) {
  const auto connect = [&](const HotKeys& keys) {
    EXPECT_THAT(WriteHotKeys(path_, keys), IsOk());
    return Connect().status();
  };
  HotKeys keys;
  ASSERT_OK_AND_ASSIGN(const auto client, cluster_.Connect());
  EXPECT_THAT(client->SaveHotNgrams(path_),
              StatusIs(Code::kFailedPrecondition, "`cache_bytes` is 0"));
  keys.digest = client->digest();
  keys.keys = {{1, 0, 5, {1, 0, 0}}};
  EXPECT_THAT(connect(keys),
              StatusIs(Code::kInvalidArgument, "layer 1: row 0 is none of column 1"));
  keys.keys[0].column = 7;
  EXPECT_THAT(connect(keys), StatusIs(Code::kInvalidArgument, "is none of column 7"));
  keys.keys[0].layer = 2;
  EXPECT_THAT(connect(keys), StatusIs(Code::kInvalidArgument, path_));
  keys.digest[0] ^= 1;
  EXPECT_THAT(connect(keys), StatusIs(Code::kFailedPrecondition, "are of the table of digest"));
}

}  // namespace
}  // namespace engram

// Lookups that repeat n-grams, with and without the cache: the rows must be those of a client that
// fetches every one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "absl/time/clock.h"
#include "client/client.h"
#include "client/slot.h"
#include "tests/cluster/lookup_helpers.h"
#include "tests/cluster/test_cluster.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr size_t kColumns = 24, kHeads = 8;

// [tokens, 24] ids of one layer, of so many different n-grams an order; now and then none, whole or
// in part.
std::vector<int64_t> Repeating(const Client& client, size_t layer, size_t tokens, size_t different,
                               uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto& columns = client.geometry().layers()[layer].columns;
  std::vector<int64_t> ids(tokens * kColumns);
  for (size_t token = 0; token < tokens; ++token) {
    for (size_t order = 0; order < kColumns / kHeads; ++order) {
      const uint64_t ngram = random() % different;
      const bool none = random() % 16 == 0, part = random() % 16 == 0;
      for (size_t head = 0; head < kHeads; ++head) {
        const HashColumn& column = columns[order * kHeads + head];
        const auto row = static_cast<int64_t>((ngram * 2654435761 + head) % column.prime);
        ids[token * kColumns + order * kHeads + head] =
            none || (part && head == 3) ? kNoRow : row + static_cast<int64_t>(column.offset);
      }
    }
  }
  return ids;
}

uint64_t Sum(const ClientStats& stats, uint64_t NgramStats::*field) {
  uint64_t sum = 0;
  for (const NgramStats& order : stats.ngrams) sum += order.*field;
  return sum;
}

std::unique_ptr<Client> Connect(const TestCluster& cluster, ClientOptions options) {
  options.servers = cluster.addresses();
  auto client = Client::Connect(options);
  EXPECT_THAT(client, IsOk());
  return client.ok() ? *std::move(client) : nullptr;
}

void ExpectRightRows(Client& client, size_t lookups, size_t tokens, size_t different) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i < lookups && !testing::Test::HasFailure(); ++i) {
    const uint32_t layer = i % 2 == 0 ? 1 : 14;
    const std::vector<int64_t> ids = Repeating(client, i % 2, tokens, different, i);
    ASSERT_THAT(LookUp(client, layer, ids, out), IsOk());
    ExpectRows(layer, ids, out);
  }
}

TEST(FoldTest, RepeatedNgramsAreFetchedOnce) {
  for (const uint32_t shards : {1, 3}) {
    TestCluster cluster(shards);
    const auto all = Connect(cluster, {.servers = {}, .dedup = false});
    const auto once = Connect(cluster, {.servers = {}});
    ExpectRightRows(*all, 4, 500, 40);
    ExpectRightRows(*once, 4, 500, 40);
    EXPECT_EQ(Sum(all->stats(), &NgramStats::looked_at), 0u);
    EXPECT_GT(Sum(once->stats(), &NgramStats::duplicates), 4u * 3 * 300);
    EXPECT_LT(once->stats().row_bytes, all->stats().row_bytes / 4);
  }
}

TEST(FoldTest, WhatWasFetchedBeforeComesFromTheCache) {
  TestCluster cluster(3);
  const auto client =
      Connect(cluster, {.servers = {}, .rows_per_request = 300, .cache_bytes = 64 << 20});
  ExpectRightRows(*client, 2, 500, 2000);
  const ClientStats cold = client->stats();
  EXPECT_EQ(Sum(cold, &NgramStats::cached), 0u);
  EXPECT_GT(cold.cache_bytes, 32u << 20);
  ExpectRightRows(*client, 2, 500, 2000);
  const ClientStats warm = client->stats();
  // All but the n-grams that lack a row.
  EXPECT_LT(warm.row_bytes - cold.row_bytes, cold.row_bytes / 4);
  EXPECT_GT(Sum(warm, &NgramStats::cached), 1000u);
  ASSERT_EQ(warm.ngrams.size(), 6u);
  EXPECT_EQ(warm.ngrams[0].layer, 1u);
  EXPECT_EQ(warm.ngrams[0].order, 2u);
  EXPECT_EQ(warm.ngrams[5].layer, 14u);
  EXPECT_EQ(warm.ngrams[5].order, 4u);
}

// Everything at once, in a cache that is much too small, with many lookups in flight.
TEST(FoldTest, ASmallCacheUnderManyLookups) {
  TestCluster cluster(2, 0, 2);
  const auto client = Connect(cluster, {.servers = {},
                                        .verify_share = 0.5,
                                        .rows_per_request = 200,
                                        .cache_bytes = 1 << 20,
                                        .hedge_share = 0.5});
  struct Running {
    std::vector<int64_t> ids;
    std::vector<uint8_t> out;
    absl::StatusOr<Ticket> ticket = absl::UnknownError("");
  };
  std::mt19937_64 random(5);
  for (int round = 0; round < 8 && !HasFailure(); ++round) {
    std::vector<Running> running(8);
    for (Running& one : running) {
      one.ids = Repeating(*client, 0, 1 + random() % 300, 400, random());
      one.out.assign(one.ids.size() * kSynthRowBytes, 0xA5);
      // Under ThreadSanitizer a suppressed report inside gRPC takes a second.
      one.ticket = client->SubmitRows({{1, one.ids, one.out}}, {.timeout = absl::Minutes(1)});
      ASSERT_THAT(one.ticket, IsOk());
    }
    *running[round % 8].ticket = Ticket();  // nobody waits for it
    for (Running& one : running) {
      if (&one == &running[round % 8]) continue;
      ASSERT_THAT(one.ticket->WaitAll(), IsOk());
      ExpectRows(1, one.ids, one.out);
    }
  }
  EXPECT_GT(Sum(client->stats(), &NgramStats::cached), 0u);
}

// Layers of many rows, in whose making-ready answers of others, and the news that a server is lost,
// are taken in.
TEST(FoldTest, LargeLookupsWhileAServerIsKilled) {
  constexpr size_t kTokens = 700;  // 16,800 rows a layer
  TestCluster cluster(2, 0, 2);
  const auto client = Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20});
  struct Running {
    std::array<std::vector<int64_t>, 2> ids;
    std::array<std::vector<uint8_t>, 2> out;
    absl::StatusOr<Ticket> ticket = absl::UnknownError("");
  };
  for (uint32_t round = 0; round < 4 && !HasFailure(); ++round) {
    std::array<Running, 2> running;
    for (size_t i = 0; i < running.size(); ++i) {
      std::vector<RowsLookup> layers;
      for (size_t layer = 0; layer < 2; ++layer) {
        running[i].ids[layer] = Repeating(*client, layer, kTokens, 600, round * 7 + i);
        running[i].out[layer].assign(running[i].ids[layer].size() * kSynthRowBytes, 0xA5);
        layers.push_back({layer == 0 ? 1u : 14u, running[i].ids[layer], running[i].out[layer]});
      }
      running[i].ticket = client->SubmitRows(layers, {.timeout = absl::Minutes(1)});
      ASSERT_THAT(running[i].ticket, IsOk());
      if (i == 0) cluster.Kill(round % 4);
    }
    for (Running& one : running) {
      ASSERT_THAT(one.ticket->WaitAll(), IsOk());
      ExpectRows(1, one.ids[0], one.out[0]);
      ExpectRows(14, one.ids[1], one.out[1]);
    }
    // Back, and known to the client to be, before its replica goes.
    const uint64_t gathers = cluster.disturbance(round % 4).gathers;
    cluster.Start(round % 4);
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    std::vector<uint8_t> out;
    for (uint64_t seed = 0; cluster.disturbance(round % 4).gathers == gathers; ++seed) {
      ASSERT_LT(absl::Now(), deadline);
      ASSERT_THAT(LookUp(*client, 1, Repeating(*client, 0, 10, 1 << 20, seed), out), IsOk());
    }
  }
  EXPECT_GT(Sum(client->stats(), &NgramStats::cached), 1000u);
}

// Tokens whose rows another token's request was to bring degrade with it, and nothing of what did
// not come is kept.
TEST(FoldTest, DuplicatesOfMissingRowsDegradeToo) {
  TestCluster cluster(1);
  const auto client = Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20});
  const std::vector<int64_t> one = Repeating(*client, 0, 1, 1, 2);
  std::vector<int64_t> ids;
  for (int i = 0; i < 4; ++i) ids.insert(ids.end(), one.begin(), one.end());
  std::vector<uint8_t> out(ids.size() * kSynthRowBytes, 0xA5), degraded(4);
  LookupOptions options;
  options.missing = MissingRows::kZeros;
  options.degraded = degraded;
  cluster.disturbance(0).failure = absl::StatusCode::kDataLoss;
  ASSERT_OK_AND_ASSIGN(Ticket ticket, client->SubmitRows({{1, ids, out}}, options));
  ASSERT_THAT(ticket.WaitAll(), IsOk());
  EXPECT_THAT(degraded, testing::Each(1));
  EXPECT_THAT(out, testing::Each(0));
  cluster.disturbance(0).failure = absl::StatusCode::kOk;
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

TEST(FoldTest, BadIdsAreNamedAsWithout) {
  TestCluster cluster(1);
  const auto client = Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20});
  std::vector<int64_t> ids(4 * kColumns, 7);
  std::vector<uint8_t> out;
  for (const int64_t bad : {int64_t{-2}, int64_t{1} << 40}) {
    ids[30] = bad;
    EXPECT_THAT(LookUp(*client, 1, ids, out),
                StatusIs(absl::StatusCode::kOutOfRange, "at position 30"));
    // Whole n-grams of it, twice.
    std::vector<int64_t> whole(4 * kColumns, bad);
    EXPECT_THAT(LookUp(*client, 1, whole, out),
                StatusIs(absl::StatusCode::kOutOfRange, "is not a row"));
  }
  ids[30] = 7;
  ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  ExpectRows(1, ids, out);
}

// The low bits of a bad id are a row's that the cache has, beside right ids of the same n-gram.
TEST(FoldTest, BadIdsAreNoHits) {
  TestCluster cluster(1);
  const auto client = Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20});
  std::vector<int64_t> ids(4 * kColumns, 7);
  std::vector<uint8_t> out;
  for (int i = 0; i < 3; ++i) ASSERT_THAT(LookUp(*client, 1, ids, out), IsOk());
  for (const size_t position : {size_t{0}, size_t{3}, size_t{7}}) {
    for (const int64_t high : {int64_t{1} << 32, int64_t{1} << 57}) {
      std::vector<int64_t> bad = ids;
      for (size_t at = position; at < bad.size(); at += 8) bad[at] += high;
      EXPECT_THAT(LookUp(*client, 1, bad, out),
                  StatusIs(absl::StatusCode::kOutOfRange, "is not a row"))
          << position << " " << high;
    }
  }
}

TEST(FoldTest, CacheOptionsAreChecked) {
  TestCluster cluster(1);
  ClientOptions options{.servers = cluster.addresses(), .cache_bytes = 1000};
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kInvalidArgument, "`cache_bytes`: a cache of 1000 bytes"));
  options.cache_bytes = 16 << 20;
  options.cache_columns = {20, 25};
  EXPECT_THAT(Client::Connect(options),
              StatusIs(absl::StatusCode::kInvalidArgument, "`cache_columns` is [20, 25)"));
}

// Every layout of a slot, of a rank's columns, folded and cached.
TEST(FoldTest, EveryLayoutOfASlot) {
  TestCluster cluster(2);
  for (const ColumnRange columns : {ColumnRange{0, 24}, ColumnRange{6, 18}}) {
    const auto client =
        Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20, .cache_columns = columns});
    const uint32_t count = columns.count();
    for (const RowOrder order : {RowOrder::kTokenMajor, RowOrder::kHeadMajor}) {
      for (const bool split : {false, true}) {
        ASSERT_OK_AND_ASSIGN(const auto slot, Slot::Create(*client, {.max_tokens = 100,
                                                                     .layers = {1},
                                                                     .columns = columns,
                                                                     .order = order,
                                                                     .split_scales = split}));
        const std::vector<int64_t> ids = Repeating(*client, 0, 100, 30, 9);
        const StepIds step{.tokens = 100, .layers = {LayerIds(ids.data(), kColumns)}};
        ASSERT_THAT(slot->SubmitIds(step, {}), IsOk());
        ASSERT_THAT(slot->WaitAll(), IsOk());
        const size_t value_bytes = split ? client->layout().value_bytes() : kSynthRowBytes;
        uint8_t right[kSynthRowBytes];
        for (uint32_t token = 0; token < 100; ++token) {
          for (uint32_t column = 0; column < count; ++column) {
            const int64_t id = ids[token * kColumns + columns.begin + column];
            std::fill_n(right, kSynthRowBytes, uint8_t{0});
            if (id != kNoRow) SynthRow(0, 1, static_cast<uint64_t>(id), right);
            const size_t place =
                order == RowOrder::kTokenMajor ? token * count + column : column * 100 + token;
            ASSERT_TRUE(
                std::equal(right, right + value_bytes, slot->rows(1).data() + place * value_bytes));
            if (!split) continue;
            const size_t scales = kSynthRowBytes - value_bytes;
            ASSERT_TRUE(std::equal(right + value_bytes, right + kSynthRowBytes,
                                   slot->scales(1).data() + place * scales));
          }
        }
      }
    }
    EXPECT_GT(Sum(client->stats(), &NgramStats::cached), 0u);
  }
}

// Tensor-parallel ranks that each ask for their own heads fetch together what one alone would.
TEST(FoldTest, EightRanksFetchTheBytesOfOne) {
  constexpr uint32_t kRanks = 8, kTokens = 400, kOwn = kColumns / kRanks;
  TestCluster cluster(2);
  const auto one = Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20});
  const std::vector<int64_t> ids = Repeating(*one, 0, kTokens, 300, 1);
  std::vector<uint8_t> out;
  for (int step = 0; step < 2; ++step) ASSERT_THAT(LookUp(*one, 1, ids, out), IsOk());
  uint64_t together = 0;
  for (uint32_t rank = 0; rank < kRanks; ++rank) {
    const ColumnRange own{rank * kOwn, (rank + 1) * kOwn};
    const auto client =
        Connect(cluster, {.servers = {}, .cache_bytes = 16 << 20, .cache_columns = own});
    ASSERT_OK_AND_ASSIGN(
        const auto slot,
        Slot::Create(*client, {.max_tokens = kTokens, .layers = {1}, .columns = own}));
    for (int step = 0; step < 2; ++step) {
      const StepIds all{.tokens = kTokens, .layers = {LayerIds(ids.data(), kColumns)}};
      ASSERT_THAT(slot->SubmitIds(all, {}), IsOk());
      ASSERT_THAT(slot->WaitAll(), IsOk());
    }
    for (uint32_t token = 0; token < kTokens; ++token) {
      ASSERT_EQ(std::memcmp(slot->rows(1).data() + token * kOwn * kSynthRowBytes,
                            out.data() + (token * kColumns + own.begin) * kSynthRowBytes,
                            kOwn * kSynthRowBytes),
                0);
    }
    together += client->stats().row_bytes;
  }
  EXPECT_LE(static_cast<double>(together), 1.1 * static_cast<double>(one->stats().row_bytes));
}

}  // namespace
}  // namespace engram

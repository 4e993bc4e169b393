#include "client/row_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr size_t kRowBytes = 16;
constexpr uint32_t kHeads = 2;

const NgramColumns& Columns() {
  static const auto* columns = new NgramColumns(kHeads, {0, 6});
  return *columns;
}

constexpr uint64_t kLayerRows = 1 << 30;

std::unique_ptr<RowCache> NewCache(uint64_t bytes, uint64_t layer_rows = kLayerRows) {
  auto cache = RowCache::Create(bytes, Columns(), kRowBytes, layer_rows);
  EXPECT_THAT(cache, IsOk());
  return *std::move(cache);
}

struct Ngram {
  size_t layer;
  uint32_t part;
  std::vector<int64_t> ids;

  static Ngram Of(uint64_t number, size_t layer = 0, uint32_t part = 1) {
    return {layer, part, {static_cast<int64_t>(number), static_cast<int64_t>(number * 7 + 1)}};
  }
  RowCache::Key key() const { return RowCache::KeyOf(layer, ids); }
  // Its rows' bytes: all of the key in each.
  void Fill(uint8_t* rows) const {
    for (uint32_t head = 0; head < kHeads; ++head) {
      const int64_t key = ids[0] * 1000 + ids[1] * 10 + static_cast<int64_t>(layer);
      const int64_t bytes[2] = {key, head};
      std::memcpy(rows + head * kRowBytes, bytes, kRowBytes);
    }
  }
};

uint8_t* RowsOf(RowCache& cache, uint32_t slot) {
  return cache.rows() + size_t{slot} * cache.slot_rows() * kRowBytes;
}

// Asks for an n-gram as a lookup of its own does; true: it was there, with its own rows.
bool Ask(RowCache& cache, const Ngram& ngram) {
  cache.Begin();
  const RowCache::Found found = cache.Find(ngram.key(), ngram.part);
  if (found.slot == RowCache::kNone) return false;
  uint8_t* const rows = RowsOf(cache, found.slot);
  if (found.hit) {
    uint8_t right[kHeads * kRowBytes];
    ngram.Fill(right);
    EXPECT_EQ(std::memcmp(rows, right, sizeof(right)), 0);
    return true;
  }
  ngram.Fill(rows);
  cache.Commit(found.slot);
  return false;
}

TEST(RowCache, KeepsWhatItWasGiven) {
  const auto cache = NewCache(1 << 20);
  EXPECT_LE(cache->bytes(), 1u << 20);
  EXPECT_GT(cache->bytes(), 1u << 19);
  for (uint64_t i = 0; i < 100; ++i) EXPECT_FALSE(Ask(*cache, Ngram::Of(i)));
  for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(Ask(*cache, Ngram::Of(i)));
  for (uint64_t i = 0; i < 100; ++i) EXPECT_FALSE(Ask(*cache, Ngram::Of(i, /*layer=*/1)));
}

// One id apart in either place is another n-gram.
TEST(RowCache, TheWholeKeyDecides) {
  const auto cache = NewCache(1 << 20);
  std::mt19937_64 random(3);
  for (int i = 0; i < 100'000; ++i) {
    Ngram ngram{random() % 2,
                static_cast<uint32_t>(random() % 3),
                {static_cast<int64_t>(random() % 40), static_cast<int64_t>(random() % 40)}};
    Ask(*cache, ngram);
  }
}

TEST(RowCache, WhatIsOnItsWayIsNotThere) {
  const auto cache = NewCache(1 << 20);
  const Ngram ngram = Ngram::Of(5);
  cache->Begin();
  const RowCache::Found first = cache->Find(ngram.key(), ngram.part);
  ASSERT_NE(first.slot, RowCache::kNone);
  EXPECT_FALSE(first.hit);
  EXPECT_EQ(cache->Find(ngram.key(), ngram.part).slot, RowCache::kNone);
  cache->Release(first.slot);  // it did not come
  EXPECT_FALSE(Ask(*cache, ngram));
  EXPECT_TRUE(Ask(*cache, ngram));
}

TEST(RowCache, WhatWasFoundStaysUntilTheNextLookup) {
  const auto cache = NewCache(4096);
  const Ngram kept = Ngram::Of(1);
  Ask(*cache, kept);
  cache->Begin();
  const RowCache::Found found = cache->Find(kept.key(), kept.part);
  ASSERT_TRUE(found.hit);
  for (int round = 0; round < 20; ++round) {
    for (uint64_t i = 100; i < 1000; ++i) {
      const Ngram other = Ngram::Of(i);
      EXPECT_NE(cache->Find(other.key(), other.part).slot, found.slot);
    }
  }
}

TEST(RowCache, AScanLeavesWhatIsAskedForOften) {
  const auto cache = NewCache(1 << 20);
  const uint64_t hot = cache->slots() / 4;
  for (int round = 0; round < 4; ++round) {
    for (uint64_t i = 0; i < hot; ++i) Ask(*cache, Ngram::Of(i));
  }
  for (uint64_t i = 0; i < 4 * cache->slots(); ++i) Ask(*cache, Ngram::Of(1'000'000 + i));
  uint64_t left = 0;
  for (uint64_t i = 0; i < hot; ++i) left += Ask(*cache, Ngram::Of(i)) ? 1 : 0;
  EXPECT_GT(left, hot * 9 / 10);
}

TEST(RowCache, FollowsAChangeOfWhatIsAskedFor) {
  const auto cache = NewCache(1 << 20);
  const uint64_t hot = cache->slots() / 2;
  for (const uint64_t base : {0, 1'000'000}) {
    for (int round = 0; round < 150; ++round) {
      for (uint64_t i = 0; i < hot; ++i) Ask(*cache, Ngram::Of(base + i));
    }
    uint64_t there = 0;
    for (uint64_t i = 0; i < hot; ++i) there += Ask(*cache, Ngram::Of(base + i)) ? 1 : 0;
    EXPECT_GT(there, hot * 9 / 10) << base;
  }
}

TEST(RowCache, TooLittleMemoryIsRefused) {
  EXPECT_THAT(RowCache::Create(100, Columns(), kRowBytes, kLayerRows),
              StatusIs(absl::StatusCode::kInvalidArgument, "a cache of 100 bytes holds nothing"));
  EXPECT_THAT(RowCache::Create(uint64_t{1} << 40, Columns(), kRowBytes, kLayerRows),
              StatusIs(absl::StatusCode::kInvalidArgument, "more rows than 32 bits"));
}

}  // namespace
}  // namespace engram

#include "storage/disk/disk_row_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 33;
constexpr uint64_t kRows = 1200;  // that the cache has room for, about

class DiskRowCacheTest : public ::testing::Test {
 protected:
  DiskRowCacheTest() : cache_(DiskRowCache::Create(kRowBytes, kRows * 51).value()) {}

  static std::string Row(uint64_t place) {
    std::string row(kRowBytes, '\0');
    for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<char>(place * 31 + i * 7 + 1);
    return row;
  }
  static uint32_t Checksum(uint64_t place) { return static_cast<uint32_t>(place * 17 + 3); }

  // Asks for a row as a store does: what is missed is read and offered. True: it was there, and was
  // the right one.
  bool Ask(uint64_t place) {
    std::string out(kRowBytes, 'x');
    uint32_t checksum = 0;
    std::vector<uint32_t> misses;
    cache_->Get({&place, 1}, reinterpret_cast<uint8_t*>(out.data()), &checksum, misses);
    if (misses.empty()) {
      EXPECT_EQ(out, Row(place));
      EXPECT_EQ(checksum, Checksum(place));
      return true;
    }
    cache_->Offer(place, reinterpret_cast<const uint8_t*>(Row(place).data()), Checksum(place));
    return false;
  }

  const std::unique_ptr<DiskRowCache> cache_;
};

TEST_F(DiskRowCacheTest, KeepsWhatItHasRoomForAndNoMore) {
  EXPECT_GT(cache_->rows(), kRows * 8 / 10);
  EXPECT_LE(cache_->rows() * (kRowBytes + sizeof(uint32_t)), kRows * 51);
  for (uint64_t place = 0; place < 100'000; ++place) Ask(place);
  EXPECT_LE(cache_->HotRows().size(), cache_->rows());
  EXPECT_GT(cache_->HotRows().size(), cache_->rows() * 9 / 10);
}

TEST_F(DiskRowCacheTest, ARowIsThereTheSecondTime) {
  EXPECT_FALSE(Ask(7));
  EXPECT_TRUE(Ask(7));
}

TEST_F(DiskRowCacheTest, NoRowIsZerosAndNoMiss) {
  Ask(5);
  const uint64_t places[] = {DiskRowCache::kNoPlace, 5, 9};
  std::string out(3 * kRowBytes, 'x');
  std::vector<uint32_t> misses;
  cache_->Get(places, reinterpret_cast<uint8_t*>(out.data()), nullptr, misses);
  EXPECT_EQ(misses, std::vector<uint32_t>{2});
  EXPECT_EQ(out.substr(0, 2 * kRowBytes), std::string(kRowBytes, '\0') + Row(5));
}

TEST_F(DiskRowCacheTest, AScanDisplacesNoHotRow) {
  constexpr uint64_t kHot = 400;
  for (int round = 0; round < 8; ++round) {
    for (uint64_t place = 0; place < kHot; ++place) Ask(place);
  }
  for (uint64_t place = 10'000; place < 10'000 + 6 * kRows; ++place) Ask(place);
  uint64_t there = 0;
  for (uint64_t place = 0; place < kHot; ++place) there += Ask(place);
  EXPECT_GT(there, kHot * 9 / 10);
}

TEST_F(DiskRowCacheTest, WhatWasHotLongAgoGivesWay) {
  for (int round = 0; round < 20; ++round) {
    for (uint64_t place = 0; place < kRows; ++place) Ask(place);
  }
  constexpr uint64_t kNew = 1'000'000;
  uint64_t there = 0;
  for (int round = 0; round < 100; ++round) {
    there = 0;
    for (uint64_t place = kNew; place < kNew + 400; ++place) there += Ask(place);
  }
  EXPECT_GT(there, 360u);
}

TEST_F(DiskRowCacheTest, HotRowsFillAnotherCache) {
  for (int round = 0; round < 3; ++round) {
    for (uint64_t place = 0; place < 300; ++place) Ask(place);
  }
  const std::vector<HotRow> hot = cache_->HotRows();
  ASSERT_GT(hot.size(), 250u);
  EXPECT_TRUE(std::is_sorted(hot.begin(), hot.end(),
                             [](const HotRow& a, const HotRow& b) { return a.place < b.place; }));
  const auto other = DiskRowCache::Create(kRowBytes, kRows * 51).value();
  for (const HotRow& row : hot) {
    other->Put(row, reinterpret_cast<const uint8_t*>(Row(row.place).data()), Checksum(row.place));
  }
  EXPECT_EQ(other->HotRows().size(), hot.size());
  std::vector<uint64_t> places;
  for (const HotRow& row : hot) places.push_back(row.place);
  std::string out(places.size() * kRowBytes, '\0');
  std::vector<uint32_t> misses;
  other->Get(places, reinterpret_cast<uint8_t*>(out.data()), nullptr, misses);
  EXPECT_TRUE(misses.empty());
  for (size_t i = 0; i < places.size(); ++i) {
    ASSERT_EQ(out.substr(i * kRowBytes, kRowBytes), Row(places[i]));
  }
}

TEST_F(DiskRowCacheTest, ThreadsNeverSeeARowThatIsHalfAnother) {
  std::vector<std::thread> threads;
  std::atomic<uint64_t> hits{0};
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      uint64_t state = t;
      for (int i = 0; i < 20'000; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        hits += Ask((state >> 33) % (2 * kRows));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(hits, 1000u);
}

}  // namespace
}  // namespace engram

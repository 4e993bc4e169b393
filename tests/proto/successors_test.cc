#include "proto/successors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/base/file.h"
#include "proto/crc32c.h"
#include "proto/geometry.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using Code = absl::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kMuch = 1 << 20;

Sha256 TestMap() {
  Sha256 map;
  map.fill(7);
  return map;
}

// What tests/proto/golden/successors-v1.bin holds.
absl::StatusOr<Successors> Golden() {
  return CountSuccessors({{1, 2, 3, 1, 2, 3, 1, 2, 4}, {9}, {2, 4}}, TestMap(), kMuch);
}

TEST(Successors, AreCountedWithinTheirSequences) {
  ASSERT_OK_AND_ASSIGN(const Successors counted, Golden());
  const Successors::Found after_two = counted.Find(2);
  EXPECT_THAT(after_two.ids, ElementsAre(3, 4));  // as frequent: by id
  EXPECT_THAT(after_two.counts, ElementsAre(2, 2));
  EXPECT_EQ(after_two.total, 4u);
  const Successors::Found after_both = counted.Find(1, 2);
  EXPECT_THAT(after_both.ids, ElementsAre(3, 4));
  EXPECT_THAT(after_both.counts, ElementsAre(2, 1));
  EXPECT_THAT(counted.Find(9).ids, IsEmpty());
  EXPECT_THAT(counted.Find(2, 1).ids, IsEmpty());
  EXPECT_THAT(counted.Find(4).ids, IsEmpty()) << "the end of a sequence has no successor";
  EXPECT_EQ(counted.max_id(), 4u);
  EXPECT_EQ(counted.size(), 3u + 3);
}

TEST(Successors, OfFrequentContextsTheMostFrequentAreKept) {
  std::vector<uint32_t> text;
  for (uint32_t next = 1; next <= 20; ++next) {
    for (uint32_t times = 0; times < 10 * next; ++times) text.insert(text.end(), {0, next});
  }
  for (uint32_t times = 0; times < 70'000; ++times) text.insert(text.end(), {0, 30});
  ASSERT_OK_AND_ASSIGN(const Successors counted, CountSuccessors({text}, TestMap(), kMuch));
  const Successors::Found after = counted.Find(0);
  ASSERT_EQ(after.ids.size(), Successors::kMost);
  EXPECT_EQ(after.ids[0], 30u);
  EXPECT_EQ(after.ids[1], 20u);
  EXPECT_EQ(after.ids.back(), 6u);
  // 72,100 do not fit into 16 bits: all of them are halved.
  EXPECT_EQ(after.total, 36'050u);
  EXPECT_EQ(after.counts[0], 35'000u);
  EXPECT_EQ(after.counts[1], 100u);
}

TEST(Successors, TheBytesBoundIsHeldByTheContextsThatForetellMost) {
  const std::string path = testing::TempDir() + "/successors_bound_test";
  std::vector<uint32_t> text;
  for (uint32_t i = 0; i < 5000; ++i) text.push_back(i * i % 613 % (i % 7 == 0 ? 1 : 300));
  for (const uint64_t bound : {200u, 1000u, 5000u, 1u << 20}) {
    ASSERT_OK_AND_ASSIGN(const Successors counted, CountSuccessors({text}, TestMap(), bound));
    ASSERT_THAT(WriteSuccessors(path, counted), IsOk());
    ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(path, 1 << 20));
    EXPECT_LE(bytes.size(), bound);
    EXPECT_GT(counted.size(), 0u);
  }
  ASSERT_OK_AND_ASSIGN(const Successors none, CountSuccessors({text}, TestMap(), 0));
  EXPECT_EQ(none.size(), 0u);
  EXPECT_THAT(none.Find(1).ids, IsEmpty());
}

TEST(Successors, WhatIsNoTableIsNamed) {
  const auto create = [](const auto& change) {
    Successors::Contexts contexts = Golden()->contexts();
    change(contexts);
    return Successors::Create(TestMap(), std::move(contexts)).status();
  };
  using Contexts = Successors::Contexts;
  constexpr Code kBad = Code::kInvalidArgument;
  EXPECT_THAT(create([](Contexts&) {}), IsOk());
  EXPECT_THAT(create([](Contexts& all) { std::swap(all.singles[0], all.singles[1]); }),
              StatusIs(kBad, "context 1 is out of order"));
  EXPECT_THAT(
      create([](Contexts& all) { all.before[1] = all.before[0], all.last[1] = all.last[0]; }),
      StatusIs(kBad, "context 4 is out of order"));
  EXPECT_THAT(create([](Contexts& all) { all.sizes[2] = 0; }),
              StatusIs(kBad, "context 2 has 0 successors"));
  EXPECT_THAT(create([](Contexts& all) { all.sizes[5] = 17; }),
              StatusIs(kBad, "context 5 has 17 successors"));
  EXPECT_THAT(create([](Contexts& all) { all.counts[0] = 9; }),
              StatusIs(kBad, "context 0 has counts that do not fit"));
  EXPECT_THAT(create([](Contexts& all) { all.counts.back() = 0; }),
              StatusIs(kBad, "has counts that do not fit"));
  EXPECT_THAT(create([](Contexts& all) { all.ids[0] = kMaxVocab; }),
              StatusIs(kBad, "context 0 names an id beyond"));
  EXPECT_THAT(create([](Contexts& all) { all.last.pop_back(); }),
              StatusIs(kBad, "do not fit together"));
  EXPECT_THAT(create([](Contexts& all) { all.ids.push_back(1), all.counts.push_back(1); }),
              StatusIs(kBad, "do not fit together"));
  EXPECT_THAT(CountSuccessors({{1, kMaxVocab}}, TestMap(), kMuch).status(),
              StatusIs(kBad, "compressed id 67108864 is beyond"));
}

class SuccessorsFile : public testing::Test {
 protected:
  absl::Status ReadBack(const std::string& bytes) {
    EXPECT_THAT(WriteFileAtomically(path_, bytes), IsOk());
    return ReadSuccessors(path_).status();
  }
  const std::string path_ = testing::TempDir() + "/successors_test";
};

TEST_F(SuccessorsFile, OfTheFirstVersionStaysReadable) {
  ASSERT_OK_AND_ASSIGN(const std::string golden,
                       ReadFile("tests/proto/golden/successors-v1.bin", 1 << 20));
  ASSERT_OK_AND_ASSIGN(const Successors counted, Golden());
  ASSERT_THAT(WriteSuccessors(path_, counted), IsOk());
  ASSERT_OK_AND_ASSIGN(const std::string written, ReadFile(path_, 1 << 20));
  EXPECT_EQ(written, golden);
  ASSERT_OK_AND_ASSIGN(const Successors read,
                       ReadSuccessors("tests/proto/golden/successors-v1.bin"));
  EXPECT_EQ(read.token_map(), TestMap());
  EXPECT_THAT(read.Find(1, 2).ids, ElementsAre(3, 4));
  EXPECT_THAT(read.Find(2).counts, ElementsAre(2, 2));
}

TEST_F(SuccessorsFile, EveryFlippedBitAndEveryCutIsFound) {
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadFile("tests/proto/golden/successors-v1.bin", 1 << 20));
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const absl::Status status = ReadBack(damaged);
    EXPECT_THAT(status, StatusIs(bit / 8 < 8 ? Code::kInvalidArgument : Code::kDataLoss, path_))
        << "bit " << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(ReadBack(bytes.substr(0, size)), StatusIs(Code::kInvalidArgument, path_)) << size;
  }
  EXPECT_THAT(ReadBack(bytes + "x"), StatusIs(Code::kInvalidArgument, "its header says"));
}

// With a checksum that fits.
TEST_F(SuccessorsFile, AnotherVersionIsNamed) {
  ASSERT_OK_AND_ASSIGN(std::string bytes,
                       ReadFile("tests/proto/golden/successors-v1.bin", 1 << 20));
  bytes[8] = 2;
  const uint32_t checksum = Crc32c(bytes.data(), 56);
  bytes.replace(56, 4, reinterpret_cast<const char*>(&checksum), 4);
  EXPECT_THAT(ReadBack(bytes),
              StatusIs(Code::kInvalidArgument, path_ + ": is of version 2, this reads 1"));
}

}  // namespace
}  // namespace engram

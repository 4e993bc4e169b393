#include "proto/hot_ngrams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/base/file.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_path.h"

namespace engram {
namespace {

using Ngram = HotNgrams::Ngram;

TEST(HotNgrams, AreCountedWithinTheirSequences) {
  const TokenTrace text = {{1, 2, 3, 1, 2, 3}, {1, 2}, {3, 1}};
  EXPECT_THAT(CountNgrams(text, 3, 4, /*window=*/1),
              testing::ElementsAre(Ngram{3, 2, {1, 2}}, Ngram{2, 2, {2, 3}}, Ngram{2, 2, {3, 1}},
                                   Ngram{2, 3, {1, 2, 3}}));
  EXPECT_THAT(CountNgrams(text, 3, 2, /*window=*/1),
              testing::ElementsAre(Ngram{3, 2, {1, 2}}, Ngram{2, 2, {2, 3}}));
  EXPECT_THAT(CountNgrams({{1}, {2}}, 3, 2), testing::IsEmpty());
}

TEST(HotNgrams, CountOnceAWindow) {
  // {5, 5} four times in the first window, {1, 2} once in each of two.
  const TokenTrace text = {{5, 5, 5, 5, 5}, {1, 2, 9}, {8, 1, 2}};
  EXPECT_THAT(CountNgrams(text, 2, 100, /*window=*/8),
              testing::ElementsAre(Ngram{2, 2, {1, 2}}, Ngram{1, 2, {5, 5}}, Ngram{1, 2, {2, 9}},
                                   Ngram{1, 2, {8, 1}}));
  EXPECT_THAT(CountNgrams(text, 2, 2, /*window=*/1),
              testing::ElementsAre(Ngram{4, 2, {5, 5}}, Ngram{2, 2, {1, 2}}));
}

class HotNgramsFile : public testing::Test {
 protected:
  HotNgramsFile() {
    hot_.token_map.fill(7);
    hot_.ngrams = {{9, 2, {1, 2}}, {5, 4, {1, 2, 3, 4}}};
    EXPECT_THAT(WriteHotNgrams(path_, hot_), IsOk());
  }
  std::string Bytes() const { return *ReadFile(path_, 1 << 20); }

  HotNgrams hot_;
  const std::string path_ = TempPath("hot_ngrams_test");
};

TEST_F(HotNgramsFile, IsReadAsWritten) {
  ASSERT_OK_AND_ASSIGN(const HotNgrams read, ReadHotNgrams(path_));
  EXPECT_EQ(read, hot_);
}

// The format stays readable: this file was written by the format's first version.
TEST(HotNgramsGolden, IsReadAndWritten) {
  const std::string golden = "tests/proto/golden/hot-ngrams-v1.bin";
  ASSERT_OK_AND_ASSIGN(const HotNgrams read, ReadHotNgrams(golden));
  HotNgrams expected;
  expected.token_map.fill(7);
  expected.ngrams = {{9, 2, {1, 2}}, {5, 4, {1, 2, 3, 0x01020304}}};
  EXPECT_EQ(read, expected);
  const std::string path = TempPath("hot_ngrams_golden");
  ASSERT_THAT(WriteHotNgrams(path, expected), IsOk());
  EXPECT_EQ(*ReadFile(path, 1 << 20), *ReadFile(golden, 1 << 20));
}

TEST_F(HotNgramsFile, EveryFlippedBitAndEveryCutIsFound) {
  const std::string bytes = Bytes();
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    ASSERT_THAT(WriteFileAtomically(path_, damaged), IsOk());
    EXPECT_FALSE(ReadHotNgrams(path_).ok()) << "bit " << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(WriteFileAtomically(path_, bytes.substr(0, size)), IsOk());
    EXPECT_FALSE(ReadHotNgrams(path_).ok()) << size << " bytes";
  }
  ASSERT_THAT(WriteFileAtomically(path_, bytes + "x"), IsOk());
  EXPECT_THAT(ReadHotNgrams(path_),
              StatusIs(absl::StatusCode::kInvalidArgument, path_ + ": has another length"));
}

}  // namespace
}  // namespace engram

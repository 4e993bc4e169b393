#include "storage/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/base/file.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr auto kBad = absl::StatusCode::kInvalidArgument;

// A tokenizer whose added tokens are `texts`, after one vocabulary token "a" (id 0).
absl::StatusOr<TokenMap> MapOfTexts(const std::vector<std::string>& texts) {
  const TempDir directory;
  nlohmann::json document = {{"model", {{"type", "BPE"}, {"vocab", {{"a", 0}}}}},
                             {"added_tokens", nlohmann::json::array()}};
  for (size_t i = 0; i < texts.size(); ++i) {
    document["added_tokens"].push_back({{"id", i + 1}, {"content", texts[i]}});
  }
  WriteTestFile(directory.File("tokenizer.json"), document.dump());
  return BuildTokenMap(directory.File("tokenizer.json"));
}

absl::StatusOr<TokenMap> MapOfJson(const std::string& json) {
  const TempDir directory;
  WriteTestFile(directory.File("tokenizer.json"), json);
  return BuildTokenMap(directory.File("tokenizer.json"));
}

TEST(TokenMapRule, WhatNormalizesAlikeSharesAnId) {
  // Case, accents, compatibility forms, white space at the ends and in runs; a lone space stays.
  ASSERT_OK_AND_ASSIGN(const TokenMap map, MapOfTexts({"A", "\u00C1", " a", "\uFF21 ", "a\n\nb",
                                                       "a b", " ", "\n", "\t "}));
  EXPECT_THAT(map.compressed(), ElementsAreArray({0, 0, 0, 0, 0, 1, 1, 2, 2, 2}));
}

TEST(TokenMapRule, MarksOfEveryKindAreDropped) {
  // U+0301 is Mn, U+0903 Mc, U+20DD Me.
  ASSERT_OK_AND_ASSIGN(const TokenMap map, MapOfTexts({"a\u0301", "a\u0903", "a\u20DD"}));
  EXPECT_THAT(map.compressed(), ElementsAreArray({0, 0, 0, 0}));
}

TEST(TokenMapRule, TextThatNormalizesToNothingGoesByItself) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, MapOfTexts({"\u0301", "\u0903", "\u00A0", "\u2003"}));
  // NFKC makes both spaces U+0020, the lone space that stays.
  EXPECT_THAT(map.compressed(), ElementsAreArray({0, 1, 2, 3, 3}));
}

TEST(TokenMapRule, PartsOfACharacterGoByTheirVocabularyString) {
  // "\u00C3" and "\u00C4" of the byte-level alphabet are the bytes C3 and C4: no whole characters.
  ASSERT_OK_AND_ASSIGN(const TokenMap map, MapOfJson(R"({"model": {"type": "BPE",
      "vocab": {"\u00C3": 0, "\u00C4": 1, "\u0120a": 2, "a": 3, "\u00C3\u00A1": 4}}})"));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 1, 2, 2, 2));
}

TEST(TokenizerTest, BadFilesAreNamed) {
  EXPECT_THAT(BuildTokenMap("/nowhere/tokenizer.json"),
              StatusIs(absl::StatusCode::kNotFound, "/nowhere/tokenizer.json"));
  EXPECT_THAT(MapOfJson("{"), StatusIs(kBad, "not valid JSON"));
  EXPECT_THAT(MapOfJson("{}"), StatusIs(kBad, "`model` is not of type BPE"));
  EXPECT_THAT(MapOfJson(R"({"model": {"type": "Unigram"}})"), StatusIs(kBad, "not of type BPE"));
  EXPECT_THAT(MapOfJson(R"({"model": {"type": "BPE"}})"), StatusIs(kBad, "`model.vocab`"));
  const auto with = [](const std::string& rest) {
    return MapOfJson(absl::StrCat(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1})", rest));
  };
  EXPECT_THAT(with("}}"), IsOk());
  EXPECT_THAT(with(R"(, "merges": ["a c"]}})"), StatusIs(kBad, "there is no token `c`"));
  EXPECT_THAT(with(R"(, "merges": [["a", "b"]]}})"), StatusIs(kBad, "there is no token `ab`"));
  EXPECT_THAT(with(R"(}, "added_tokens": [{"id": 1, "content": "x"}]})"),
              StatusIs(kBad, "token id 1 is `b` and `x`"));
  EXPECT_THAT(with(R"(}, "added_tokens": [{"id": 3, "content": "x"}]})"),
              StatusIs(kBad, "no token has the id 2"));
  EXPECT_THAT(with(R"(}, "added_tokens": [{"id": -1, "content": "x"}]})"), StatusIs(kBad, "id -1"));
  EXPECT_THAT(with(R"(}, "added_tokens": [{"id": 2}]})"), StatusIs(kBad, "without id or content"));
  EXPECT_THAT(MapOfJson(R"({"model": {"type": "BPE", "vocab": {"a b": 0}}})"),
              StatusIs(kBad, "not of the byte-level alphabet"));
}

class RealTokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("ENGRAM_TEST_TOKENIZER");
    ASSERT_NE(path, nullptr) << "ENGRAM_TEST_TOKENIZER is not set: run the tests by tests/run.sh";
    path_ = path;
  }
  std::string path_;
};

TEST_F(RealTokenizerTest, DeepSeekV3IdById) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map, BuildTokenMap(path_));
  ASSERT_OK_AND_ASSIGN(const std::string golden,
                       ReadFile("tests/storage/golden/deepseek_v3_token_map.u32", 1 << 20));
  ASSERT_OK_AND_ASSIGN(const TokenMap expected, TokenMap::Parse(golden));
  EXPECT_EQ(map.tokens(), 128815u);
  EXPECT_EQ(map.compressed_count(), 98627u);
  for (uint32_t id = 0; id < map.tokens(); ++id) {
    ASSERT_EQ(map.compressed()[id], expected.compressed()[id]) << "token id " << id;
  }
}

TEST_F(RealTokenizerTest, PaddedToV41sSizeItHasV41sCount) {
  const TempDir directory;
  ASSERT_THAT(PadTokenizer(path_, 129280, directory.File("tokenizer.json")), IsOk());
  ASSERT_OK_AND_ASSIGN(const TokenMap map, BuildTokenMap(directory.File("tokenizer.json")));
  EXPECT_EQ(map.tokens(), 129280u);
  EXPECT_EQ(map.compressed_count(), 99092u);
  EXPECT_THAT(PadTokenizer(path_, 1000, directory.File("less.json")),
              StatusIs(kBad, "more than 1000"));
}

}  // namespace
}  // namespace engram

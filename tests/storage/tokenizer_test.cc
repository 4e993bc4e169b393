#include "storage/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "proto/base/file.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;
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

// What stands for `bytes` in a byte-level vocabulary.
std::string ByteLevel(absl::string_view bytes) {
  const auto stands_for_itself = [](int b) {
    return (b > 0x20 && b < 0x7F) || (b > 0xA0 && b <= 0xFF && b != 0xAD);
  };
  std::string out;
  for (const char c : bytes) {
    const int byte = static_cast<unsigned char>(c);
    int character = byte;
    if (!stands_for_itself(byte)) {
      character = 0x100;
      for (int b = 0; b < byte; ++b) character += stands_for_itself(b) ? 0 : 1;
    }
    if (character < 0x80) {
      out.push_back(static_cast<char>(character));
    } else {
      out.push_back(static_cast<char>(0xC0 | (character >> 6)));
      out.push_back(static_cast<char>(0x80 | (character & 0x3F)));
    }
  }
  return out;
}

json Added(const json& id, const json& content) { return {{"id", id}, {"content", content}}; }

// A tokenizer with this vocabulary, as it stands, and no merges.
json Tokenizer(const json& vocab, const std::vector<json>& added = {}) {
  return {{"added_tokens", added},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
}

class TokenizerFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<TokenMap> Build(const json& document) {
    WriteTestFile(path_, document.dump());
    return BuildTokenMap(path_);
  }

  // Compressed ids of tokens that decode to `texts`, in order of their ids.
  std::vector<uint32_t> Compress(const std::vector<std::string>& texts) {
    json vocab = json::object();
    for (size_t id = 0; id < texts.size(); ++id) vocab[ByteLevel(texts[id])] = id;
    const absl::StatusOr<TokenMap> map = Build(Tokenizer(vocab));
    EXPECT_THAT(map, IsOk());
    if (!map.ok()) return {};
    return {map->compressed().begin(), map->compressed().end()};
  }

  // The two texts share a compressed id.
  bool Alike(const std::string& a, const std::string& b) {
    return Compress({a, b}) == std::vector<uint32_t>{0, 0};
  }

  // Refused with InvalidArgument that names the file and says `what`.
  void ExpectRefused(const json& document, const std::string& what) {
    EXPECT_THAT(Build(document), StatusIs(kBad, absl::StrCat(path_, ": ", what)));
  }

  TempDir dir_;
  const std::string path_ = dir_.File("tokenizer.json");
};

// ---------------------------------------------------------------- normalizing

TEST_F(TokenizerFileTest, TheFirstIdOfAKeyOpensTheNextCompressedId) {
  EXPECT_THAT(Compress({"b", "a", "B", "c", " A"}), ElementsAre(0, 1, 0, 2, 1));
}

TEST_F(TokenizerFileTest, AccentsAreDropped) {
  EXPECT_TRUE(Alike("e", "\u00E9"));        // composed
  EXPECT_TRUE(Alike("\u00E9", "e\u0301"));  // decomposed
  EXPECT_TRUE(Alike("\u1EC7", "e"));        // two marks
  EXPECT_FALSE(Alike("\u00F8", "o"));       // o with stroke does not decompose
}

TEST_F(TokenizerFileTest, MarksOfAllThreeKindsAreDropped) {
  EXPECT_TRUE(Alike("a\u0301", "a"));            // Mn
  EXPECT_TRUE(Alike("\u0915\u093E", "\u0915"));  // Mc: a Devanagari vowel sign
  EXPECT_TRUE(Alike("a\u20DD", "a"));            // Me: an enclosing circle
}

TEST_F(TokenizerFileTest, CompatibilityFormsAreTheirPlainOnes) {
  EXPECT_TRUE(Alike("\uFF21", "a"));      // full width A
  EXPECT_TRUE(Alike("\uFB01", "fi"));     // ligature
  EXPECT_TRUE(Alike("\u00B2", "2"));      // superscript
  EXPECT_TRUE(Alike("\U0001D400", "a"));  // beyond the basic plane
}

TEST_F(TokenizerFileTest, LowerCaseIsPerCharacterWithoutContext) {
  EXPECT_TRUE(Alike("ABC", "abc"));
  EXPECT_TRUE(Alike("\u0410", "\u0430"));              // Cyrillic
  EXPECT_TRUE(Alike("\U00010400", "\U00010428"));      // Deseret, beyond the basic plane
  EXPECT_TRUE(Alike("\u0391\u03A3", "\u03B1\u03C3"));  // a last sigma does not become final
  EXPECT_FALSE(Alike("\u03C3", "\u03C2"));             // ... and a final one stays final
  EXPECT_TRUE(Alike("\u0130", "i"));                   // dotted I: its dot is a mark by then
  EXPECT_FALSE(Alike("\u0131", "i"));                  // dotless i
  EXPECT_TRUE(Alike("\u1E9E", "\u00DF"));              // sharp s: lower case, no case folding
  EXPECT_FALSE(Alike("\u00DF", "ss"));
}

TEST_F(TokenizerFileTest, RunsOfSpaceAreOneSpace) {
  EXPECT_TRUE(Alike("a \t\r\nb", "a b"));
  EXPECT_TRUE(Alike("a\nb", "a b"));
  EXPECT_FALSE(Alike("a b", "ab"));
  EXPECT_TRUE(Alike("a\u00A0b", "a b"));   // NFKC makes it a space
  EXPECT_FALSE(Alike("a\u2028b", "a b"));  // white space, but not of the run's kind
  EXPECT_FALSE(Alike("a\vb", "a b"));
}

TEST_F(TokenizerFileTest, TheEndsAreStripped) {
  EXPECT_TRUE(Alike(" a\n", "a"));
  EXPECT_TRUE(Alike("\u2028a\u0085", "a"));  // any Unicode white space
  EXPECT_TRUE(Alike("\va\f", "a"));
  EXPECT_FALSE(Alike("\u200Ba", "a"));  // a zero-width space is none
}

TEST_F(TokenizerFileTest, ASingleSpaceIsKept) {
  EXPECT_THAT(Compress({" ", "   ", "\n", "\t\r\n", "\u00A0", "a"}), ElementsAre(0, 0, 0, 0, 0, 1));
  EXPECT_TRUE(Alike(" \u0301", " "));  // the mark goes first
  EXPECT_TRUE(Alike("\uE000", " "));   // the sentinel's own character
}

TEST_F(TokenizerFileTest, TextThatNormalizesToNothingIsItsOwnKey) {
  EXPECT_THAT(Compress({"\u0301", "\u0300", "\u2028", "\v"}), ElementsAre(0, 1, 2, 3));
}

TEST_F(TokenizerFileTest, PartOfACharacterGoesByItsVocabularyString) {
  // Lead bytes that would all be U+FFFD as text; spaces and case count in the vocabulary string.
  EXPECT_THAT(Compress({"\xE4", "\xE5", " \xE4", "A\xE4", "a\xE4"}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Compress({"\xED\xA0\x80", "\xC0\xAF"}), ElementsAre(0, 1));  // surrogate; overlong
  EXPECT_FALSE(Alike("\uFFFD", "\uFFFD "));  // a true U+FFFD cannot be told from one
}

TEST_F(TokenizerFileTest, VocabularyStringsAndTextsShareOneKeySpace) {
  // Byte A0 alone is written as U+0142, which is also what the second token's text normalizes to.
  ASSERT_EQ(ByteLevel("\xA0"), "\u0142");
  EXPECT_TRUE(Alike("\xA0", "\u0142"));
}

// ---------------------------------------------------------------- reading

TEST_F(TokenizerFileTest, AddedTokensAreLiteralTextWhereTheyAreNotOfTheAlphabet) {
  const json vocab = {{"a", 0}, {"b", 1}, {"<\uFF5Cend\uFF5C>", 2}};
  ASSERT_OK_AND_ASSIGN(const TokenMap map,
                       Build(Tokenizer(vocab, {Added(2, "<\uFF5Cend\uFF5C>"),  // in the vocabulary
                                               Added(3, "<|end|>"),            // alike: NFKC
                                               Added(4, " A "), Added(5, "\u4E2D")})));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 1, 2, 2, 0, 3));
}

TEST_F(TokenizerFileTest, AddedTokensAreLiteralTextEvenInTheAlphabet) {
  // As byte-level text these would be the lone byte C9 and the two bytes of an e with acute.
  ASSERT_OK_AND_ASSIGN(
      const TokenMap map,
      Build(Tokenizer({{"e", 0}}, {Added(1, "\u00C9"), Added(2, "\u00C3\u00A9")})));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 0, 1));
}

TEST_F(TokenizerFileTest, MergesComeAsTextOrAsPairs) {
  json document = Tokenizer({{"a", 0}, {"b", 1}, {"ab", 2}, {"aba", 3}});
  document["model"]["merges"] = json::array({"a b", json::array({"ab", "a"})});
  EXPECT_THAT(Build(document), IsOk());
  document["model"].erase("merges");
  document.erase("added_tokens");
  EXPECT_THAT(Build(document), IsOk());
}

TEST_F(TokenizerFileTest, RefusesWhatIsNotABpeTokenizer) {
  EXPECT_THAT(BuildTokenMap(dir_.File("absent.json")),
              StatusIs(absl::StatusCode::kNotFound, "absent.json"));
  WriteTestFile(path_, "{\"model\": ");
  EXPECT_THAT(BuildTokenMap(path_), StatusIs(kBad, absl::StrCat(path_, " is not valid JSON")));
  WriteTestFile(path_, R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}}})");
  EXPECT_THAT(BuildTokenMap(path_), StatusIs(kBad, "key `a` appears twice"));
  json document = Tokenizer({{"a", 0}});
  document["model"]["type"] = "Unigram";
  ExpectRefused(document, "field `model` is not of type BPE");
  document["model"].erase("type");
  ExpectRefused(document, "field `model` is not of type BPE");
  ExpectRefused({{"model", "BPE"}}, "field `model` is not of type BPE");
  ExpectRefused(json::object(), "field `model` is not of type BPE");
}

TEST_F(TokenizerFileTest, RefusesAMissingVocabulary) {
  const std::string what = "field `model.vocab` is missing or not an object of tokens";
  for (const json& vocab : {json(), json::object(), json::array({"a"}), json("a")}) {
    ExpectRefused(Tokenizer(vocab), what);
  }
  ExpectRefused({{"model", {{"type", "BPE"}}}}, what);
}

TEST_F(TokenizerFileTest, RefusesIdsWithGaps) {
  const std::string gap = "field `model.vocab` has a gap: no token has the id ";
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 2}}), gap + "1");
  ExpectRefused(Tokenizer({{"a", 1}}), gap + "0");
  ExpectRefused(Tokenizer({{"a", 0}}, {Added(uint64_t{1} << 60, "b")}), gap + "1");
  // One entry repeats another, so that three entries are but two tokens.
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 2}}, {Added(2, "b")}), gap + "1");
}

TEST_F(TokenizerFileTest, RefusesWhatIsNoId) {
  for (const json& id : {json(-1), json(0.5), json("0"), json()}) {
    ExpectRefused(Tokenizer({{"a", id}}),
                  "field `model.vocab` has a wrong id: token `a` has the id " + id.dump());
  }
}

TEST_F(TokenizerFileTest, RefusesAnIdOfTwoTokens) {
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 0}}),
                "field `model.vocab` has a wrong id: token id 0 is `a` and `b`");
  ExpectRefused(Tokenizer({{"a", 0}}, {Added(1, "b"), Added(1, "c")}),
                "field `added_tokens` has a wrong id: token id 1 is `b` and `c`");
}

TEST_F(TokenizerFileTest, RefusesAddedTokensThatContradictTheVocabulary) {
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 1}}, {Added(1, "c")}),
                "field `added_tokens` has a wrong id: token id 1 is `b` and `c`");
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 1}}, {Added(2, "a")}),
                "field `added_tokens` has a wrong id: token `a` has the ids 0 and 2");
}

TEST_F(TokenizerFileTest, RefusesMalformedAddedTokens) {
  json document = Tokenizer({{"a", 0}});
  document["added_tokens"] = json::object();
  ExpectRefused(document, "field `added_tokens` is not a list");
  for (const json& entry : {json("b"), json{{"id", 1}}, json{{"content", "b"}}, Added(1, 2)}) {
    ExpectRefused(Tokenizer({{"a", 0}}, {entry}),
                  "field `added_tokens` has an entry without id or content");
  }
}

TEST_F(TokenizerFileTest, RefusesCharactersOutsideTheByteLevelAlphabet) {
  for (const std::string token : {"\u2581a", "a b", "\u00AD", "\u0144", "\U0001F600"}) {
    ExpectRefused(Tokenizer({{token, 0}}),
                  absl::StrCat("field `model.vocab` has token `", token,
                               "`, which is not of the byte-level alphabet"));
  }
}

TEST_F(TokenizerFileTest, RefusesMergesOfTokensThatAreNotThere) {
  json document = Tokenizer({{"a", 0}, {"b", 1}, {"ab", 2}});
  json& merges = document["model"]["merges"];
  merges = json::array({"a b", "a c"});
  ExpectRefused(document, "field `model.merges` has \"a c\", but there is no token `c`");
  merges = json::array({json::array({"d", "b"})});
  ExpectRefused(document, "field `model.merges` has [\"d\",\"b\"], but there is no token `d`");
  merges = json::array({"b a"});
  ExpectRefused(document, "field `model.merges` has \"b a\", but there is no token `ba`");
}

TEST_F(TokenizerFileTest, RefusesMalformedMerges) {
  json document = Tokenizer({{"a", 0}, {"b", 1}, {"ab", 2}});
  for (const json& merge : {json("ab"), json(1), json::array({"a"}), json::array({"a", 1})}) {
    document["model"]["merges"] = json::array({merge});
    ExpectRefused(document, absl::StrCat("field `model.merges` has ", merge.dump(),
                                         ", which is not a pair of tokens"));
  }
  document["model"]["merges"] = "a b";
  ExpectRefused(document, "field `model.merges` is not a list");
}

// ---------------------------------------------------------------- padding

TEST_F(TokenizerFileTest, PaddingAddsCompressedIdsOfTheirOwn) {
  WriteTestFile(path_, Tokenizer({{"a", 0}, {"A", 1}}, {Added(2, "<end>")}).dump());
  const std::string padded = dir_.File("padded.json");
  ASSERT_THAT(PadTokenizer(path_, 6, padded), IsOk());
  ASSERT_OK_AND_ASSIGN(const TokenMap map, BuildTokenMap(padded));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 0, 1, 2, 3, 4));
  // Padding what is padded changes nothing, and goes on where it ended.
  const std::string again = dir_.File("again.json");
  ASSERT_THAT(PadTokenizer(padded, 6, again), IsOk());
  EXPECT_EQ(ReadTestFile(again), ReadTestFile(padded));
  ASSERT_THAT(PadTokenizer(padded, 7, again), IsOk());
  ASSERT_OK_AND_ASSIGN(const TokenMap longer, BuildTokenMap(again));
  EXPECT_THAT(longer.compressed(), ElementsAre(0, 0, 1, 2, 3, 4, 5));
}

TEST_F(TokenizerFileTest, PaddingRefusesWhatHasMoreTokensOrCannotBeRead) {
  WriteTestFile(path_, Tokenizer({{"a", 0}, {"b", 1}}).dump());
  const std::string padded = dir_.File("padded.json");
  EXPECT_THAT(PadTokenizer(path_, 1, padded),
              StatusIs(kBad, absl::StrCat(path_, ": has 2 tokens, more than 1")));
  EXPECT_THAT(PadTokenizer(dir_.File("absent.json"), 4, padded),
              StatusIs(absl::StatusCode::kNotFound, "absent.json"));
  WriteTestFile(path_, Tokenizer({{"a", 1}}).dump());
  EXPECT_THAT(PadTokenizer(path_, 4, padded), StatusIs(kBad, "field `model.vocab`"));
  EXPECT_THAT(BuildTokenMap(padded), StatusIs(absl::StatusCode::kNotFound, padded));
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

#include "storage/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

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

class TokenizerTest : public ::testing::Test {
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
    EXPECT_THAT(Build(document), StatusIs(kInvalid, absl::StrCat(path_, ": ", what)));
  }

  TempDir dir_;
  const std::string path_ = dir_.File("tokenizer.json");
};

// ---------------------------------------------------------------- normalizing

TEST_F(TokenizerTest, TheFirstIdOfAKeyOpensTheNextCompressedId) {
  EXPECT_THAT(Compress({"b", "a", "B", "c", " A"}), ElementsAre(0, 1, 0, 2, 1));
}

TEST_F(TokenizerTest, AccentsAreDropped) {
  EXPECT_TRUE(Alike("e", "\u00E9"));        // composed
  EXPECT_TRUE(Alike("\u00E9", "e\u0301"));  // decomposed
  EXPECT_TRUE(Alike("\u1EC7", "e"));        // two marks
  EXPECT_FALSE(Alike("\u00F8", "o"));       // o with stroke does not decompose
}

TEST_F(TokenizerTest, MarksOfAllThreeKindsAreDropped) {
  EXPECT_TRUE(Alike("a\u0301", "a"));            // Mn
  EXPECT_TRUE(Alike("\u0915\u093E", "\u0915"));  // Mc: a Devanagari vowel sign
  EXPECT_TRUE(Alike("a\u20DD", "a"));            // Me: an enclosing circle
}

TEST_F(TokenizerTest, CompatibilityFormsAreTheirPlainOnes) {
  EXPECT_TRUE(Alike("\uFF21", "a"));      // full width A
  EXPECT_TRUE(Alike("\uFB01", "fi"));     // ligature
  EXPECT_TRUE(Alike("\u00B2", "2"));      // superscript
  EXPECT_TRUE(Alike("\U0001D400", "a"));  // beyond the basic plane
}

TEST_F(TokenizerTest, LowerCaseIsPerCharacterWithoutContext) {
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

TEST_F(TokenizerTest, RunsOfSpaceAreOneSpace) {
  EXPECT_TRUE(Alike("a \t\r\nb", "a b"));
  EXPECT_TRUE(Alike("a\nb", "a b"));
  EXPECT_FALSE(Alike("a b", "ab"));
  EXPECT_TRUE(Alike("a\u00A0b", "a b"));   // NFKC makes it a space
  EXPECT_FALSE(Alike("a\u2028b", "a b"));  // white space, but not of the run's kind
  EXPECT_FALSE(Alike("a\vb", "a b"));
}

TEST_F(TokenizerTest, TheEndsAreStripped) {
  EXPECT_TRUE(Alike(" a\n", "a"));
  EXPECT_TRUE(Alike("\u2028a\u0085", "a"));  // any Unicode white space
  EXPECT_TRUE(Alike("\va\f", "a"));
  EXPECT_FALSE(Alike("\u200Ba", "a"));  // a zero-width space is none
}

TEST_F(TokenizerTest, ASingleSpaceIsKept) {
  EXPECT_THAT(Compress({" ", "   ", "\n", "\t\r\n", "\u00A0", "a"}), ElementsAre(0, 0, 0, 0, 0, 1));
  EXPECT_TRUE(Alike(" \u0301", " "));  // the mark goes first
  EXPECT_TRUE(Alike("\uE000", " "));   // the sentinel's own character
}

TEST_F(TokenizerTest, TextThatNormalizesToNothingIsItsOwnKey) {
  EXPECT_THAT(Compress({"\u0301", "\u0300", "\u2028", "\v"}), ElementsAre(0, 1, 2, 3));
}

TEST_F(TokenizerTest, PartOfACharacterGoesByItsVocabularyString) {
  // Lead bytes that would all be U+FFFD as text; spaces and case count in the vocabulary string.
  EXPECT_THAT(Compress({"\xE4", "\xE5", " \xE4", "A\xE4", "a\xE4"}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Compress({"\xED\xA0\x80", "\xC0\xAF"}), ElementsAre(0, 1));  // surrogate; overlong
  EXPECT_FALSE(Alike("\uFFFD", "\uFFFD "));  // a true U+FFFD cannot be told from one
}

TEST_F(TokenizerTest, VocabularyStringsAndTextsShareOneKeySpace) {
  // Byte A0 alone is written as U+0142, which is also what the second token's text normalizes to.
  ASSERT_EQ(ByteLevel("\xA0"), "\u0142");
  EXPECT_TRUE(Alike("\xA0", "\u0142"));
}

// ---------------------------------------------------------------- reading

TEST_F(TokenizerTest, AddedTokensAreLiteralTextWhereTheyAreNotOfTheAlphabet) {
  const json vocab = {{"a", 0}, {"b", 1}, {"<\uFF5Cend\uFF5C>", 2}};
  ASSERT_OK_AND_ASSIGN(const TokenMap map,
                       Build(Tokenizer(vocab, {Added(2, "<\uFF5Cend\uFF5C>"),  // in the vocabulary
                                               Added(3, "<|end|>"),            // alike: NFKC
                                               Added(4, " A "), Added(5, "\u4E2D")})));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 1, 2, 2, 0, 3));
}

// The reference decodes with the ByteLevel decoder of Hugging Face, which does not ask whether a
// token was added: "\u00C3\u00A9" is the bytes C3 A9.
TEST_F(TokenizerTest, AnAddedTokenOfTheAlphabetDecodesLikeAnyOther) {
  ASSERT_OK_AND_ASSIGN(const TokenMap map,
                       Build(Tokenizer({{"e", 0}}, {Added(1, "\u00C3\u00A9")})));
  EXPECT_THAT(map.compressed(), ElementsAre(0, 0));
}

TEST_F(TokenizerTest, MergesComeAsTextOrAsPairs) {
  json document = Tokenizer({{"a", 0}, {"b", 1}, {"ab", 2}, {"aba", 3}});
  document["model"]["merges"] = json::array({"a b", json::array({"ab", "a"})});
  EXPECT_THAT(Build(document), IsOk());
  document["model"].erase("merges");
  document.erase("added_tokens");
  EXPECT_THAT(Build(document), IsOk());
}

TEST_F(TokenizerTest, RefusesWhatIsNotABpeTokenizer) {
  EXPECT_THAT(BuildTokenMap(dir_.File("absent.json")),
              StatusIs(absl::StatusCode::kNotFound, "absent.json"));
  WriteTestFile(path_, "{\"model\": ");
  EXPECT_THAT(BuildTokenMap(path_), StatusIs(kInvalid, absl::StrCat(path_, " is not valid JSON")));
  WriteTestFile(path_, R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}}})");
  EXPECT_THAT(BuildTokenMap(path_), StatusIs(kInvalid, "key `a` appears twice"));
  json document = Tokenizer({{"a", 0}});
  document["model"]["type"] = "Unigram";
  ExpectRefused(document, "field `model` is not of type BPE");
  document["model"].erase("type");
  ExpectRefused(document, "field `model` is not of type BPE");
  ExpectRefused({{"model", "BPE"}}, "field `model` is not of type BPE");
  ExpectRefused(json::object(), "field `model` is not of type BPE");
}

TEST_F(TokenizerTest, RefusesAMissingVocabulary) {
  const std::string what = "field `model.vocab` is missing or not an object of tokens";
  for (const json& vocab : {json(), json::object(), json::array({"a"}), json("a")}) {
    ExpectRefused(Tokenizer(vocab), what);
  }
  ExpectRefused({{"model", {{"type", "BPE"}}}}, what);
}

TEST_F(TokenizerTest, RefusesIdsWithGaps) {
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 2}}),
                "field `model.vocab` gives token `b` the id 2, not one of 0 to 1");
  ExpectRefused(Tokenizer({{"a", 1}}), "field `model.vocab` gives token `a` the id 1");
  ExpectRefused(Tokenizer({{"a", 0}}, {Added(67'000'000, "b")}),
                "field `added_tokens` gives token `b` the id 67000000, not one of 0 to 1");
  // One entry repeats another, so that three entries are but two tokens.
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 2}}, {Added(2, "b")}),
                "field `model.vocab` and `added_tokens` give no token the id 1");
}

TEST_F(TokenizerTest, RefusesWhatIsNoId) {
  for (const json& id : {json(-1), json(0.5), json("0"), json()}) {
    ExpectRefused(Tokenizer({{"a", id}}),
                  absl::StrCat("field `model.vocab` gives token `a` the id ", id.dump()));
  }
}

TEST_F(TokenizerTest, RefusesAnIdOfTwoTokens) {
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 0}}),
                "field `model.vocab` gives token `b` the id 0, but that is token `a`");
  ExpectRefused(Tokenizer({{"a", 0}}, {Added(1, "b"), Added(1, "c")}),
                "field `added_tokens` gives token `c` the id 1, but that is token `b`");
}

TEST_F(TokenizerTest, RefusesAddedTokensThatContradictTheVocabulary) {
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 1}}, {Added(1, "c")}),
                "field `added_tokens` gives token `c` the id 1, but that is token `b`");
  ExpectRefused(Tokenizer({{"a", 0}, {"b", 1}}, {Added(2, "a")}),
                "field `added_tokens` gives token `a` the id 2, but it has the id 0");
}

TEST_F(TokenizerTest, RefusesMalformedAddedTokens) {
  json document = Tokenizer({{"a", 0}});
  document["added_tokens"] = json::object();
  ExpectRefused(document, "field `added_tokens` is not a list");
  for (const json& entry : {json("b"), json{{"id", 1}}, json{{"content", "b"}}, Added(1, 2)}) {
    ExpectRefused(Tokenizer({{"a", 0}}, {entry}),
                  "field `added_tokens` has an entry without id or content");
  }
}

TEST_F(TokenizerTest, RefusesCharactersOutsideTheByteLevelAlphabet) {
  for (const std::string token : {"\u2581a", "a b", "\u00AD", "\u0144", "\U0001F600"}) {
    ExpectRefused(Tokenizer({{token, 0}}),
                  absl::StrCat("field `model.vocab` has token `", token,
                               "`, which is not of the byte-level alphabet"));
  }
}

TEST_F(TokenizerTest, RefusesMergesOfTokensThatAreNotThere) {
  json document = Tokenizer({{"a", 0}, {"b", 1}, {"ab", 2}});
  json& merges = document["model"]["merges"];
  merges = json::array({"a b", "a c"});
  ExpectRefused(document, "field `model.merges` has \"a c\", but there is no token `c`");
  merges = json::array({json::array({"d", "b"})});
  ExpectRefused(document, "field `model.merges` has [\"d\",\"b\"], but there is no token `d`");
  merges = json::array({"b a"});
  ExpectRefused(document, "field `model.merges` has \"b a\", but there is no token `ba`");
}

TEST_F(TokenizerTest, RefusesMalformedMerges) {
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

TEST_F(TokenizerTest, PaddingAddsCompressedIdsOfTheirOwn) {
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

TEST_F(TokenizerTest, PaddingRefusesWhatHasMoreTokensOrCannotBeRead) {
  WriteTestFile(path_, Tokenizer({{"a", 0}, {"b", 1}}).dump());
  const std::string padded = dir_.File("padded.json");
  EXPECT_THAT(PadTokenizer(path_, 1, padded),
              StatusIs(kInvalid, absl::StrCat(path_, ": has 2 tokens, more than 1")));
  EXPECT_THAT(PadTokenizer(dir_.File("absent.json"), 4, padded),
              StatusIs(absl::StatusCode::kNotFound, "absent.json"));
  WriteTestFile(path_, Tokenizer({{"a", 1}}).dump());
  EXPECT_THAT(PadTokenizer(path_, 4, padded), StatusIs(kInvalid, "field `model.vocab`"));
  EXPECT_THAT(BuildTokenMap(padded), StatusIs(absl::StatusCode::kNotFound, padded));
}

// ---------------------------------------------------------------- the real one

// The DeepSeek-V3 tokenizer against a map computed elsewhere, with other Unicode tables.
class RealTokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const path = std::getenv("ENGRAM_TEST_TOKENIZER");
    ASSERT_TRUE(path != nullptr && *path != '\0')
        << "ENGRAM_TEST_TOKENIZER names no tokenizer.json: run the tests by tests/run.sh, which "
           "fetches it";
    path_ = path;
  }

  std::string path_;
};

TEST_F(RealTokenizerTest, AgreesIdByIdWithTheGoldenMap) {
  ASSERT_OK_AND_ASSIGN(
      const TokenMap golden,
      TokenMap::Parse(ReadTestFile("tests/storage/golden/deepseek_v3_token_map.u32")));
  ASSERT_OK_AND_ASSIGN(const TokenMap map, BuildTokenMap(path_));
  EXPECT_EQ(map.compressed_count(), 98'627u);
  ASSERT_EQ(map.tokens(), 128'815u);
  ASSERT_EQ(map.tokens(), golden.tokens());
  int differences = 0;
  for (uint32_t id = 0; id < map.tokens() && differences < 10; ++id) {
    if (map.compressed()[id] == golden.compressed()[id]) continue;
    ++differences;
    ADD_FAILURE() << "token id " << id << " maps to " << map.compressed()[id] << ", golden says "
                  << golden.compressed()[id];
  }
}

TEST_F(RealTokenizerTest, PaddedHasTheCompressedSizeOfTheLargerModel) {
  const TempDir dir;
  const std::string padded = dir.File("padded.json");
  ASSERT_THAT(PadTokenizer(path_, 129'280, padded), IsOk());
  ASSERT_OK_AND_ASSIGN(const TokenMap map, BuildTokenMap(padded));
  EXPECT_EQ(map.tokens(), 129'280u);
  EXPECT_EQ(map.compressed_count(), 99'092u);
  EXPECT_EQ(map.compressed().back(), 99'091u);
}

}  // namespace
}  // namespace engram

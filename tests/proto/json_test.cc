#include "proto/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;
using testing::ElementsAre;

std::string Nested(size_t levels) {
  std::string text;
  for (size_t i = 0; i < levels; ++i) text += "{\"a\":";
  return text + "1" + std::string(levels, '}');
}

TEST(ParseJsonObject, ReadsAnObject) {
  ASSERT_OK_AND_ASSIGN(const json document, ParseJsonObject(R"({"a": {"b": [1, 2]}})", "doc"));
  EXPECT_EQ(document["a"]["b"][1], 2);
}

TEST(ParseJsonObject, WhatIsNotAnObjectIsRefused) {
  const struct {
    std::string text;
    const char* message;
  } kCases[] = {
      {"", "doc is not valid JSON"},
      {"{\"a\": 1", "doc is not valid JSON"},
      {"{\"a\": 1} x", "doc is not valid JSON"},
      {"{\"a\": NaN}", "doc is not valid JSON"},
      {"{\"a\": \"\xff\"}", "doc is not valid JSON"},
      {"[1]", "doc holds a JSON array"},
      {"7", "doc holds a JSON number"},
      {"null", "doc holds a JSON null"},
      {R"({"a": 1, "a": 2})", "doc: key `a` appears twice"},
      {R"({"x": [{"b": 1, "c": 2, "b": 1}]})", "doc: key `b` appears twice"},
      {Nested(70), "doc: nested deeper than 64"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(ParseJsonObject(test.text, "doc"), StatusIs(kInvalid, test.message)) << test.text;
  }
}

TEST(ParseJsonObject, TheSameKeyInTwoObjectsIsFine) {
  EXPECT_THAT(ParseJsonObject(R"({"a": {"k": 1}, "b": {"k": 2}, "k": 3})", "doc"), IsOk());
  EXPECT_THAT(ParseJsonObject(Nested(60), "doc"), IsOk());
}

TEST(ParseJsonObject, SyntaxErrorsSayTheByte) {
  EXPECT_THAT(ParseJsonObject("{\"abc\": !}", "doc"), StatusIs(kInvalid, "column 9"));
}

TEST(ReadJsonFile, NamesThePathAndKeepsTheLimit) {
  const std::string path =
      (std::filesystem::temp_directory_path() / absl::StrCat("engram_json.", getpid())).string();
  EXPECT_THAT(ReadJsonFile(path, 100), StatusIs(absl::StatusCode::kNotFound, path));
  ASSERT_THAT(WriteFileAtomically(path, "{\"a\": 1}"), IsOk());
  EXPECT_THAT(ReadJsonFile(path, 8), IsOk());
  EXPECT_THAT(ReadJsonFile(path, 7), StatusIs(kInvalid, path));
  ASSERT_THAT(WriteFileAtomically(path, "{"), IsOk());
  EXPECT_THAT(ReadJsonFile(path, 100), StatusIs(kInvalid, path));
  std::filesystem::remove(path);
}

class JsonFieldsTest : public testing::Test {
 protected:
  const json object_ = json::parse(R"({
      "n": 7, "zero": 0, "negative": -1, "real": 7.0, "text": "x", "none": null, "flag": true,
      "max": 18446744073709551615, "beyond": 18446744073709551616,
      "list": [1, 2, 3], "empty": [], "mixed": [1, "x"]})");
  const JsonFields fields_{object_, "doc: part"};
};

TEST_F(JsonFieldsTest, Integers) {
  EXPECT_TRUE(fields_.Has("n"));
  EXPECT_FALSE(fields_.Has("m"));
  EXPECT_EQ(*fields_.Uint("n", 7, 7), 7u);
  EXPECT_EQ(*fields_.Uint("zero", 0, 7), 0u);
  EXPECT_EQ(*fields_.Uint("max", 0, ~uint64_t{0}), ~uint64_t{0});
}

TEST_F(JsonFieldsTest, EveryComplaintNamesDocumentAndField) {
  const struct {
    const char* field;
    const char* message;
  } kCases[] = {
      {"missing", "doc: part: field `missing` is missing"},
      {"n", "doc: part: field `n` is 7, expected an integer in [1, 6]"},
      {"zero", "doc: part: field `zero` is 0, expected an integer in [1, 6]"},
      {"negative", "doc: part: field `negative` is -1"},
      {"real", "doc: part: field `real` is 7.0"},
      {"text", "doc: part: field `text` is \"x\""},
      {"none", "doc: part: field `none` is null"},
      {"flag", "doc: part: field `flag` is true"},
      {"max", "doc: part: field `max` is 18446744073709551615"},
      {"beyond", "doc: part: field `beyond` is 1.8446744073709552e+19"},
      {"list", "doc: part: field `list` is [1,2,3]"},
  };
  for (const auto& test : kCases) {
    EXPECT_THAT(fields_.Uint(test.field, 1, 6), StatusIs(kInvalid, test.message));
    EXPECT_THAT(fields_.UintOrList(test.field, 1, 2, 2),
                StatusIs(kInvalid, absl::StrCat("doc: part: field `", test.field, "`")));
  }
}

TEST_F(JsonFieldsTest, Lists) {
  EXPECT_THAT(*fields_.UintList("list", 1, 3, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(*fields_.UintOrList("list", 1, 3, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(*fields_.UintOrList("n", 1, 7, 3), ElementsAre(7));
  EXPECT_THAT(fields_.UintList("n", 1, 7, 3), StatusIs(kInvalid, "`n` is not a list"));
  EXPECT_THAT(fields_.UintList("list", 1, 3, 2), StatusIs(kInvalid, "`list` has 3 elements"));
  EXPECT_THAT(fields_.UintList("list", 1, 2, 3), StatusIs(kInvalid, "`list` is 3"));
  EXPECT_THAT(fields_.UintList("empty", 1, 3, 3), StatusIs(kInvalid, "`empty` has 0 elements"));
  EXPECT_THAT(fields_.UintList("mixed", 1, 3, 3), StatusIs(kInvalid, "`mixed` is \"x\""));
  EXPECT_THAT(fields_.UintList("missing", 1, 3, 3), StatusIs(kInvalid, "`missing` is missing"));
}

TEST_F(JsonFieldsTest, Strings) {
  EXPECT_EQ(*fields_.String("text"), "x");
  EXPECT_THAT(fields_.String("n"), StatusIs(kInvalid, "`n` is not a string"));
  EXPECT_THAT(fields_.String("missing"), StatusIs(kInvalid, "`missing` is missing"));
}

}  // namespace
}  // namespace engram

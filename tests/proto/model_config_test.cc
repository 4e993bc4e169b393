#include "proto/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "nlohmann/json.hpp"
#include "tests/proto/flash_params.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using nlohmann::json;
using testing::ElementsAre;

json FlashFields() {
  return json::parse(R"({
      "engram_layer_ids": [1, 14], "engram_max_ngram_size": 4, "engram_n_heads": 8,
      "engram_vocab_size": 16000000, "engram_head_dim": 256, "engram_pad_token_id": 2,
      "engram_compressed_vocab_size": 99092, "engram_num_embeddings": [384006168, 384016682]})");
}

json FlashConfig() { return {{"model_type", "deepseek_v4"}, {"text_config", FlashFields()}}; }

json PaperConfig() {
  return json::parse(R"({
      "layer_ids": [1, 15], "max_ngram_size": 3, "n_head_per_ngram": 8,
      "engram_vocab_size": [646400, 646400], "n_embed_per_ngram": 512, "pad_id": 2, "seed": 0})");
}

absl::StatusOr<ModelConfig> Parse(const json& document) {
  return ParseModelConfig(document.dump(), "DIR/config.json");
}

TEST(ParseModelConfig, FlashNestedUnderTextConfig) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(FlashConfig()));
  EXPECT_EQ(config.family, ModelFamily::kV41);
  EXPECT_EQ(config.model, "deepseek_v4");
  EXPECT_EQ(config.params, FlashParams());
  EXPECT_EQ(config.row_values, 256u);
  EXPECT_THAT(*config.expected_rows, ElementsAre(384006168, 384016682));
}

TEST(ParseModelConfig, FlashAtTheTopLevel) {
  json document = FlashFields();
  document["text_config"] = {
      {"hidden_size", 5120}};  // One without Engram fields is no second place.
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(document));
  EXPECT_EQ(config.params, FlashParams());
  EXPECT_EQ(config.model, "deepseek_v41");
}

TEST(ParseModelConfig, FlashWithAFloorPerOrderAndASeed) {
  json document = FlashFields();
  document["engram_vocab_size"] = {100, 200, 300};
  document["seed"] = 5;
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(document));
  EXPECT_THAT(config.params.bucket_floors, ElementsAre(100, 200, 300));
  EXPECT_EQ(config.params.seed, 5u);
}

TEST(ParseModelConfig, Paper) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(PaperConfig()));
  EXPECT_EQ(config.family, ModelFamily::kPaper);
  EXPECT_EQ(config.model, "engram_paper");
  EXPECT_THAT(config.params.layer_ids, ElementsAre(1, 15));
  EXPECT_EQ(config.params.max_ngram, 3u);
  EXPECT_EQ(config.params.heads, 8u);
  EXPECT_THAT(config.params.bucket_floors, ElementsAre(646400, 646400));
  EXPECT_EQ(config.params.pad_token, 2u);
  EXPECT_EQ(config.params.compressed_vocab, 0u);
  EXPECT_EQ(config.row_values, 64u);
  EXPECT_FALSE(config.expected_rows.has_value());
}

TEST(ParseModelConfig, PaperWithACompressedVocabulary) {
  json document = PaperConfig();
  document["compressed_vocab_size"] = 98627;
  EXPECT_EQ(Parse(document)->params.compressed_vocab, 98627u);
}

json PleFields() {
  return {{"ple_layer_ids", {2}},   {"ngram_size", 3},
          {"heads_per_ngram", 8},   {"ngram_vocab_size_base", 20000000},
          {"ple_embed_dim", 2560},  {"make_ngram_vocab_size_divisible_by", 128},
          {"vocab_size", 248320},   {"hidden_size", 2560},
          {"eos_token_id", 248044}, {"split_ngram_parts", 128}};
}

TEST(ParseModelConfig, Ple) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                       Parse({{"model_type", "qwen4_exp"}, {"text_config", PleFields()}}));
  EXPECT_EQ(config.family, ModelFamily::kPle);
  EXPECT_EQ(config.model, "qwen4_exp");
  EXPECT_EQ(config.row_values, 160u);
  EXPECT_EQ(config.params.rule, HashRule::kPle);
  EXPECT_EQ(config.params.seed, 1234u);
  EXPECT_EQ(config.params.pad_token, 248044u);
  EXPECT_FALSE(config.expected_rows.has_value());
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, ResolveGeometry(config, 248320));
  EXPECT_EQ(geometry.total_rows(), 320001536u);
}

TEST(ParseModelConfig, PleWithTransformersDefaults) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig full, Parse(PleFields()));
  json fields = PleFields();
  for (const char* field : {"ngram_size", "heads_per_ngram", "ngram_vocab_size_base",
                            "ple_embed_dim", "make_ngram_vocab_size_divisible_by"}) {
    fields.erase(field);
  }
  fields["eos_token_id"] = {248044, 1};
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(fields));
  EXPECT_EQ(config.params, full.params);
  EXPECT_EQ(config.row_values, 160u);
}

TEST(ParseModelConfig, BadPleFields) {
  const auto with = [](const char* field, const json& value) {
    json fields = PleFields();
    fields[field] = value;
    return Parse(fields).status();
  };
  EXPECT_THAT(with("ple_layer_ids", json::array()), StatusIs(kInvalid, "`ple_layer_ids`"));
  EXPECT_THAT(with("ple_layer_ids", {0}), StatusIs(kInvalid, "layers counted from 1"));
  EXPECT_THAT(with("ple_layer_ids", {4, 2}), StatusIs(kInvalid, "not an ascending list"));
  EXPECT_THAT(with("ple_embed_dim", 2561),
              StatusIs(kInvalid, "`ple_embed_dim` is 2561, which 16 heads do not share evenly"));
  EXPECT_THAT(with("eos_token_id", 248320), StatusIs(kInvalid, "`eos_token_id`"));
  EXPECT_THAT(with("seed", -1), StatusIs(kInvalid, "`seed`"));
  EXPECT_THAT(with("engram_layer_ids", {1}), StatusIs(kInvalid, "of more than one kind"));
  json fields = PleFields();
  fields.erase("vocab_size");
  EXPECT_THAT(Parse(fields), StatusIs(kInvalid, "`vocab_size`"));
}

TEST(ParseModelConfig, NoEngramFields) {
  for (const char* text : {"{}", R"({"layer_ids": [1], "seed": 0})", R"({"text_config": {}})",
                           R"({"text_config": 7})", R"({"text_config": ["engram_layer_ids"]})"}) {
    EXPECT_THAT(ParseModelConfig(text, "DIR/config.json"),
                StatusIs(kInvalid, "DIR/config.json has no Engram fields"))
        << text;
  }
}

TEST(ParseModelConfig, NotAJsonObject) {
  for (const char* text :
       {"", "[]", "{", R"({"engram_layer_ids": [1], "engram_layer_ids": [2]})"}) {
    EXPECT_THAT(ParseModelConfig(text, "DIR/config.json"), StatusIs(kInvalid, "DIR/config.json"));
  }
}

TEST(ParseModelConfig, TwoPlacesOrTwoKinds) {
  constexpr char kMessage[] = "DIR/config.json has Engram fields in more than one place";
  json both_places = FlashFields();
  both_places["text_config"] = FlashFields();
  EXPECT_THAT(Parse(both_places), StatusIs(kInvalid, kMessage));
  // One stray field in the other place is enough: which of the two counts would be a guess.
  const json fields = FlashFields();  // items() borrows it.
  for (const auto& [name, value] : fields.items()) {
    json stray = FlashConfig();
    stray[name] = value;
    EXPECT_THAT(Parse(stray), StatusIs(kInvalid, kMessage)) << name;
  }
  json both_kinds = FlashFields();
  both_kinds.update(PaperConfig());
  EXPECT_THAT(Parse(both_kinds), StatusIs(kInvalid, kMessage));
  json kinds_apart = FlashConfig();
  kinds_apart.update(PaperConfig());
  EXPECT_THAT(Parse(kinds_apart), StatusIs(kInvalid, kMessage));
}

TEST(ParseModelConfig, EveryFieldIsNeeded) {
  const json flash = FlashFields(), paper = PaperConfig();  // items() borrows them.
  for (const auto& [name, value] : flash.items()) {
    json document = FlashConfig();
    document["text_config"].erase(name);
    EXPECT_THAT(Parse(document), StatusIs(kInvalid, "DIR/config.json: text_config: field `" + name +
                                                        "` is missing"));
  }
  for (const auto& [name, value] : paper.items()) {
    json document = PaperConfig();
    document.erase(name);
    EXPECT_THAT(Parse(document),
                StatusIs(kInvalid, "DIR/config.json: field `" + name + "` is missing"));
  }
}

struct BadField {
  const char* field;
  const char* value;  // JSON
  const char* message;
};

TEST(ParseModelConfig, BadFlashFields) {
  const BadField kCases[] = {
      {"engram_layer_ids", "[]", "has 0 elements"},
      {"engram_layer_ids", "14", "is not a list"},
      {"engram_layer_ids", "[-1]", "is -1"},
      {"engram_layer_ids", "[65536]", "is 65536"},
      {"engram_layer_ids", "[1, \"14\"]", "is \"14\""},
      {"engram_max_ngram_size", "1", "is 1, expected an integer in [2, 8]"},
      {"engram_max_ngram_size", "0", "is 0"},
      {"engram_max_ngram_size", "9", "is 9"},
      {"engram_max_ngram_size", "4.0", "is 4.0"},
      {"engram_max_ngram_size", "4294967300", "is 4294967300"},
      {"engram_n_heads", "0", "is 0, expected an integer in [1, 64]"},
      {"engram_n_heads", "-8", "is -8"},
      {"engram_n_heads", "65", "is 65"},
      {"engram_n_heads", "null", "is null"},
      {"engram_n_heads", "true", "is true"},
      {"engram_vocab_size", "0", "is 0"},
      {"engram_vocab_size", "-16000000", "is -16000000"},
      {"engram_vocab_size", "1099511627777", "is 1099511627777"},
      {"engram_vocab_size", "18446744073709551616", "is 1.8446744073709552e+19"},
      {"engram_vocab_size", "[16000000]", "has 1 bucket floors for 3 n-gram orders"},
      {"engram_vocab_size", "[1, 2, 3, 4]", "has 4 bucket floors for 3 n-gram orders"},
      {"engram_vocab_size", "[1, 2, 0]", "is 0"},
      {"engram_vocab_size", "[]", "has 0 elements"},
      {"engram_head_dim", "0", "is 0"},
      {"engram_head_dim", "250", "is 250, not a multiple of 32"},
      {"engram_head_dim", "16", "is 16, not a multiple of 32"},
      {"engram_head_dim", "65568", "is 65568"},
      {"engram_pad_token_id", "-1", "is -1"},
      {"engram_pad_token_id", "67108864", "is 67108864"},
      {"engram_compressed_vocab_size", "0", "is 0"},
      {"engram_compressed_vocab_size", "67108865", "is 67108865"},
      {"engram_num_embeddings", "384006168", "is not a list"},
      {"engram_num_embeddings", "[0, 1]", "is 0"},
      {"engram_num_embeddings", "[-1, 1]", "is -1"},
      {"seed", "-1", "is -1"},
      {"seed", "18446744073709551615", "is 18446744073709551615"},
      {"seed", "\"0\"", "is \"0\""},
  };
  for (const BadField& test : kCases) {
    json document = FlashConfig();
    document["text_config"][test.field] = json::parse(test.value);
    EXPECT_THAT(Parse(document),
                StatusIs(kInvalid, std::string("DIR/config.json: text_config: field `") +
                                       test.field + "` " + test.message));
  }
}

TEST(ParseModelConfig, BadPaperFields) {
  const BadField kCases[] = {
      {"layer_ids", "[]", "has 0 elements"},
      {"layer_ids", "[1, 65536]", "is 65536"},
      {"max_ngram_size", "1", "is 1"},
      {"max_ngram_size", "9", "is 9"},
      {"n_head_per_ngram", "0", "is 0"},
      {"n_head_per_ngram", "-1", "is -1"},
      {"n_head_per_ngram", "65", "is 65"},
      {"engram_vocab_size", "[646400]", "has 1 bucket floors for 2 n-gram orders"},
      {"engram_vocab_size", "[646400, -1]", "is -1"},
      {"n_embed_per_ngram", "0", "is 0"},
      {"n_embed_per_ngram", "511", "is 511, which 8 heads do not share evenly"},
      {"n_embed_per_ngram", "524296", "is 524296, which 8 heads do not share evenly"},
      {"n_embed_per_ngram", "4194305", "is 4194305"},
      {"pad_id", "-1", "is -1"},
      {"pad_id", "67108864", "is 67108864"},
      {"seed", "-1", "is -1"},
      {"seed", "4611686018427387905", "is 4611686018427387905"},
      {"compressed_vocab_size", "0", "is 0"},
  };
  for (const BadField& test : kCases) {
    json document = PaperConfig();
    document[test.field] = json::parse(test.value);
    EXPECT_THAT(Parse(document), StatusIs(kInvalid, std::string("DIR/config.json: field `") +
                                                        test.field + "` " + test.message));
  }
}

TEST(ParseModelConfig, AModelNameIsOneWord) {
  for (const json& name : {json("two words"), json(""), json("tab\t"), json("line\n"),
                           json(std::string(101, 'a')), json("caf\xC3\xA9"), json(7), json()}) {
    json document = FlashConfig();
    document["model_type"] = name;
    EXPECT_THAT(Parse(document), StatusIs(kInvalid, "DIR/config.json: field `model_type` is not"))
        << name;
  }
}

TEST(ResolveGeometry, FlashWithAndWithoutATokenMap) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(FlashConfig()));
  for (const std::optional<uint32_t> vocab : {std::optional<uint32_t>(), {99092}}) {
    ASSERT_OK_AND_ASSIGN(const Geometry geometry, ResolveGeometry(config, vocab));
    EXPECT_EQ(geometry.params(), config.params);
    EXPECT_EQ(geometry.layers()[1].rows, 384016682u);
  }
}

// 99,045 is what the token map counts when only general category Mn is dropped.
TEST(ResolveGeometry, ATokenMapThatWouldRehashTheTableIsRefused) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(FlashConfig()));
  EXPECT_THAT(ResolveGeometry(config, 99045),
              StatusIs(kInvalid,
                       "compresses to 99045 ids, but the configuration's "
                       "`engram_compressed_vocab_size` is 99092"));
  json document = PaperConfig();
  document["compressed_vocab_size"] = 98627;
  ASSERT_OK_AND_ASSIGN(const ModelConfig paper, Parse(document));
  EXPECT_THAT(ResolveGeometry(paper, 98626),
              StatusIs(kInvalid, "`compressed_vocab_size` is 98627"));
}

TEST(ResolveGeometry, PaperTakesTheTokenMapsCount) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(PaperConfig()));
  ASSERT_OK_AND_ASSIGN(const Geometry geometry, ResolveGeometry(config, 98627));
  EXPECT_EQ(geometry.params().compressed_vocab, 98627u);
  EXPECT_EQ(geometry.layers()[0].rows, 10344164u);
  EXPECT_THAT(ResolveGeometry(config, std::nullopt),
              StatusIs(kInvalid, "no compressed vocabulary"));
}

TEST(ResolveGeometry, RowsThatTheCheckpointDoesNotState) {
  json document = FlashConfig();
  document["text_config"]["engram_num_embeddings"] = {384006168, 384016681};
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(document));
  EXPECT_THAT(ResolveGeometry(config, std::nullopt), StatusIs(kInvalid, "384016681"));
  document["text_config"]["engram_num_embeddings"] = {384006168};
  ASSERT_OK_AND_ASSIGN(const ModelConfig fewer, Parse(document));
  EXPECT_THAT(ResolveGeometry(fewer, std::nullopt), StatusIs(kInvalid, "states [384006168]"));
}

TEST(ResolveGeometry, TablesLargerThanAnyFileAreRefused) {
  json document = PaperConfig();
  document["engram_vocab_size"] = {kMaxBucketFloor, kMaxBucketFloor};
  document["n_head_per_ngram"] = kMaxHeads;
  document["n_embed_per_ngram"] = 65536 * kMaxHeads;
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(document));
  EXPECT_THAT(ResolveGeometry(config, 98627),
              StatusIs(absl::StatusCode::kOutOfRange, "are larger than any file"));
}

TEST(ResolveGeometry, ALayerListedTwice) {
  json document = PaperConfig();
  document["layer_ids"] = {1, 1};
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, Parse(document));
  EXPECT_THAT(ResolveGeometry(config, 98627), StatusIs(kInvalid, "layer 1 is listed twice"));
}

}  // namespace
}  // namespace engram

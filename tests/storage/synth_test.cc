#include "storage/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "storage/checkpoint.h"
#include "storage/synth_rows.h"
#include "storage/table_reader.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string Row(uint64_t seed, uint32_t layer, uint64_t row) {
  uint8_t bytes[kSynthRowBytes];
  SynthRow(seed, layer, row, bytes);
  return std::string(reinterpret_cast<const char*>(bytes), sizeof(bytes));
}

std::vector<std::string> Files(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The documented recipe once more, byte by byte and without tricks.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9;
  x ^= x >> 27;
  x *= 0x94D049BB133111EB;
  x ^= x >> 31;
  return x;
}
constexpr uint64_t kG = 0x9E3779B97F4A7C15;
std::string RecipeRow(uint64_t seed, uint64_t layer, uint64_t row) {
  const uint64_t g = kG;
  const uint64_t key = Mix(Mix(Mix(seed + g) + layer + g) + row + g);
  std::string bytes;
  for (uint64_t i = 0; i < 33; ++i) {
    const uint64_t word = Mix(key + (i + 1) * g);
    for (uint32_t k = 0; k < 8; ++k) {
      uint64_t byte = word >> (8 * k) & 0xFF;
      if (i == 32) {
        byte = 118 + (byte & 15);
      } else if ((byte & 0x7F) == 0x7F) {
        byte -= 1;
      }
      bytes.push_back(static_cast<char>(byte));
    }
  }
  return bytes;
}

TEST(SynthRowTest, IsTheDocumentedFunction) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    for (const uint32_t layer : {1u, 14u}) {
      for (uint64_t row = 0; row < 500; ++row) {
        ASSERT_EQ(Row(seed, layer, row), RecipeRow(seed, layer, row));
      }
      EXPECT_EQ(Row(seed, layer, 384'016'681), RecipeRow(seed, layer, 384'016'681));
    }
  }
}

// Computed by a few lines of Python: rows of checkpoints that were written long ago stay the same.
TEST(SynthRowTest, NeverChanges) {
  const std::string row = Row(5, 14, 12345);
  EXPECT_EQ(absl::BytesToHexString(row.substr(0, 8)), "9b1eeb81040788c8");
  EXPECT_EQ(absl::BytesToHexString(row.substr(248)), "2fb58e4edf96643f7d76827c787c8579");
}

TEST(SynthRowTest, HoldsNoNanAndScalesInRange) {
  std::set<std::string> rows;
  for (uint64_t row = 0; row < 1000; ++row) {
    const std::string bytes = Row(0, 1, row);
    for (size_t i = 0; i < 256; ++i) ASSERT_NE(bytes[i] & 0x7F, 0x7F);
    for (size_t i = 256; i < 264; ++i) {
      const int scale = static_cast<uint8_t>(bytes[i]);
      ASSERT_GE(scale, 118);
      ASSERT_LE(scale, 133);
    }
    rows.insert(bytes);
  }
  EXPECT_EQ(rows.size(), 1000u);
  EXPECT_NE(Row(0, 1, 0), Row(0, 14, 0));
  EXPECT_NE(Row(0, 1, 0), Row(1, 1, 0));
}

class SynthTest : public ::testing::Test {
 protected:
  SynthOptions Options() {
    SynthOptions options;
    options.out = dir_.File("made/here");
    options.bucket_floor = 500;
    options.seed = 42;
    return options;
  }
  TempDir dir_;
};

TEST_F(SynthTest, WritesACheckpointThatOpensWithTheseRows) {
  const SynthOptions options = Options();
  ASSERT_THAT(Synthesize(options), IsOk());
  EXPECT_THAT(Files(options.out),
              ElementsAre("config.json", "model-00003-of-00048.safetensors",
                          "model-00017-of-00048.safetensors", "model.safetensors.index.json"));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(options.out));
  EXPECT_EQ(checkpoint.layout().row_bytes(), kSynthRowBytes);
  EXPECT_EQ(checkpoint.geometry().params().compressed_vocab, 99'092u);
  EXPECT_EQ(checkpoint.geometry().params().seed, 0u);
  ASSERT_OK_AND_ASSIGN(const auto reader, TableReader::Open(checkpoint));
  for (size_t i = 0; i < 2; ++i) {
    const LayerGeometry& layer = checkpoint.geometry().layers()[i];
    ASSERT_GT(layer.rows, 8192u);  // More than one batch of the writer.
    std::string rows(layer.rows * kSynthRowBytes, '\0');
    ASSERT_THAT(reader->Read(i, 0, layer.rows, reinterpret_cast<uint8_t*>(rows.data())), IsOk());
    for (uint64_t row = 0; row < layer.rows; ++row) {
      ASSERT_EQ(rows.substr(row * kSynthRowBytes, kSynthRowBytes), Row(42, layer.layer_id, row));
    }
  }
}

TEST_F(SynthTest, ConfigurationHasTheRealFields) {
  const SynthOptions options = Options();
  ASSERT_THAT(Synthesize(options), IsOk());
  const auto config = nlohmann::json::parse(ReadTestFile(options.out + "/config.json"));
  const auto& text = config.at("text_config");
  EXPECT_EQ(text.at("engram_layer_ids"), nlohmann::json({1, 14}));
  EXPECT_EQ(text.at("engram_max_ngram_size"), 4);
  EXPECT_EQ(text.at("engram_n_heads"), 8);
  EXPECT_EQ(text.at("engram_head_dim"), 256);
  EXPECT_EQ(text.at("engram_vocab_size"), 500);
  EXPECT_EQ(text.at("engram_pad_token_id"), 2);
  EXPECT_EQ(text.at("engram_compressed_vocab_size"), 99'092);
  EXPECT_EQ(text.at("engram_num_embeddings").size(), 2u);
  EXPECT_EQ(text.at("vocab_size"), 129'280);
}

TEST_F(SynthTest, ThePapersLayoutInEveryFloatType) {
  struct Case {
    ValueType type;
    uint64_t exponents;  // of the values in a word
  };
  for (const Case& c : {Case{ValueType::kBf16, 0x7F807F807F807F80},
                        {ValueType::kF16, 0x7C007C007C007C00},
                        {ValueType::kF32, 0x7F8000007F800000}}) {
    SCOPED_TRACE(std::string(ValueTypeName(c.type)));
    SynthOptions options = Options();
    options.out = dir_.File(ValueTypeName(c.type));
    options.model = SynthModel::kPaper;
    options.paper_values = c.type;
    ASSERT_THAT(Synthesize(options), IsOk());
    EXPECT_THAT(Files(options.out), ElementsAre("config.json", "model.safetensors"));
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(options.out));
    EXPECT_EQ(checkpoint.config().family, ModelFamily::kPaper);
    EXPECT_EQ(checkpoint.layout(), (RowLayout{c.type, 64, ScaleType::kNone, 0}));
    EXPECT_EQ(checkpoint.geometry().params().compressed_vocab, 98'627u);
    ASSERT_OK_AND_ASSIGN(const auto reader, TableReader::Open(checkpoint));
    const uint32_t row_bytes = checkpoint.layout().row_bytes();
    for (size_t i = 0; i < 2; ++i) {
      const LayerGeometry& layer = checkpoint.geometry().layers()[i];
      for (const uint64_t row : {uint64_t{0}, layer.rows / 3, layer.rows - 1}) {
        std::vector<uint8_t> expected(row_bytes), got(row_bytes);
        SynthRow(checkpoint.layout(), 42, layer.layer_id, row, expected);
        ASSERT_THAT(reader->Read(i, row, 1, got.data()), IsOk());
        EXPECT_EQ(got, expected);
        for (size_t at = 0; at < row_bytes; at += 8) {
          uint64_t word;
          std::memcpy(&word, &got[at], sizeof(word));
          // An exponent of ones is infinity or NaN; here its highest bit is never set.
          EXPECT_EQ(word & c.exponents & ~(c.exponents >> 1), 0u);
          const uint64_t recipe =
              Mix(Mix(Mix(Mix(42 + kG) + layer.layer_id + kG) + row + kG) + (at / 8 + 1) * kG);
          EXPECT_EQ(word | (recipe & c.exponents), recipe);
        }
      }
    }
  }
}

TEST_F(SynthTest, ThePapersTokenizerIsCopiedAsItIs) {
  SynthOptions options = Options();
  options.model = SynthModel::kPaper;
  options.tokenizer = dir_.File("small.json");
  WriteTestFile(options.tokenizer,
                R"({"model": {"type": "BPE", "vocab": {"a": 0, "A": 1, "b": 2}}})");
  ASSERT_THAT(Synthesize(options), IsOk());
  EXPECT_EQ(ReadTestFile(options.out + "/tokenizer.json"), ReadTestFile(options.tokenizer));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(options.out));
  EXPECT_EQ(checkpoint.geometry().params().compressed_vocab, 2u);
}

TEST(StatedRowsTest, BothSidesOfEveryColumnBorderAndEvery524288th) {
  ASSERT_OK_AND_ASSIGN(const Geometry geometry,
                       SynthGeometry(SynthModel::kV41Flash, 1'200'000, 99));
  const LayerGeometry& layer = geometry.layers()[0];
  const std::vector<uint64_t> rows = StatedRows(layer);
  const std::set<uint64_t> stated(rows.begin(), rows.end());
  EXPECT_EQ(stated.size(), rows.size());
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(rows.front(), 0u);
  EXPECT_EQ(rows.back(), layer.rows - 1);
  for (const HashColumn& column : layer.columns) {
    EXPECT_EQ(stated.count(column.offset), 1u);
    EXPECT_EQ(stated.count(column.offset + column.prime - 1), 1u);
  }
  EXPECT_EQ(stated.count(5 << 20), 1u);
  EXPECT_EQ(rows.size(), 48 + layer.rows / (1 << 19));
}

TEST_F(SynthTest, RefusesADirectoryWithACheckpoint) {
  for (const char* name : {"config.json", "a.safetensors", "model.safetensors.index.json",
                           "tokenizer.json", "engram.sidecar"}) {
    TempDir dir;
    WriteTestFile(dir.File(name), "theirs");
    SynthOptions options = Options();
    options.out = dir.path();
    EXPECT_THAT(Synthesize(options),
                StatusIs(absl::StatusCode::kAlreadyExists,
                         absl::StrCat(dir.path(), " holds a checkpoint or part of one (", name)));
    EXPECT_EQ(ReadTestFile(dir.File(name)), "theirs");
    EXPECT_THAT(Files(dir.path()), ElementsAre(name));
  }
}

TEST_F(SynthTest, RefusesBadOptions) {
  SynthOptions options = Options();
  options.bucket_floor = 0;
  EXPECT_THAT(Synthesize(options), StatusIs(kInvalid, "bucket floor is 0"));
  EXPECT_FALSE(std::filesystem::exists(options.out));
  options = Options();
  options.out = "";
  EXPECT_THAT(Synthesize(options), StatusIs(kInvalid, "no output directory"));
  options = Options();
  options.out = dir_.File("file");
  WriteTestFile(options.out, "");
  EXPECT_FALSE(Synthesize(options).ok());
}

TEST_F(SynthTest, CopiesTheTokenizerPaddedAndTakesItsCompressedSize) {
  SynthOptions options = Options();
  options.tokenizer = dir_.File("small.json");
  // "a" and "A" normalize alike, so 129,280 ids give one compressed id less.
  WriteTestFile(options.tokenizer, R"({
    "added_tokens": [],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "A": 1, "b": 2}, "merges": []}})");
  ASSERT_THAT(Synthesize(options), IsOk());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(options.out));
  ASSERT_TRUE(checkpoint.token_map().has_value());
  EXPECT_EQ(checkpoint.token_map()->tokens(), 129'280u);
  EXPECT_EQ(checkpoint.geometry().params().compressed_vocab, 129'279u);
}

TEST_F(SynthTest, ATokenizerThatCannotBeReadLeavesNothing) {
  SynthOptions options = Options();
  options.tokenizer = dir_.File("absent.json");
  EXPECT_THAT(Synthesize(options), StatusIs(absl::StatusCode::kNotFound, options.tokenizer));
  EXPECT_THAT(Files(options.out), IsEmpty());
}

// A limit on the size of files stands in for a full disk: the same calls fail in the same places.
TEST_F(SynthTest, AFailedWriteLeavesNothing) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const SynthOptions options = Options();
  const absl::Status status = Synthesize(options);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status, StatusIs(status.code(), "model-00003-of-00048.safetensors"));
  EXPECT_THAT(Files(options.out), IsEmpty());
}

}  // namespace
}  // namespace engram

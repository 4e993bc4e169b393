// What people have on disk: one table spelled in several ways, and tables of other models.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/checkpoint.h"
#include "storage/table_digest.h"
#include "storage/table_reader.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// Digests of TinyCheckpoint and of the other models' tables below as they stand: none may change
// from version to version, or a pinned digest would refuse the table it was pinned to.
constexpr char kTinyDigest[] = "5a78719d1d1adf8174b7e6d3c9dee48538d56fa75c88944c591b0a1fbb767e0e";
constexpr char kPaperBf16Digest[] =
    "ffce22de79d1cb9580ea6b7c1fc8b4f21ddd184353c1dae3c29904507119c52e";
constexpr char kPleDigest[] = "81e82f61854a0dd7b1b8043c4ce4c1c38345f0349c11c6745fcabdc7077defe2";

class ExportsTest : public ::testing::Test {
 protected:
  void Write(const std::vector<TestTensor>& tensors) {
    WriteTestFile(dir_.File("model.safetensors"), SafetensorsBytes(tensors));
  }
  absl::StatusOr<std::string> Digest() {
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    auto sidecar = ComputeSidecar(*checkpoint, 2, nullptr);
    if (!sidecar.ok()) return sidecar.status();
    return ToHex(sidecar->digest);
  }
  // The digest of the tiny table, its tensors changed by `edit`.
  absl::StatusOr<std::string> DigestWith(const std::function<void(TestTensor&)>& edit) {
    tiny_.WriteConfig(dir_.path());
    std::vector<TestTensor> tensors = tiny_.Tensors();
    for (TestTensor& tensor : tensors) edit(tensor);
    Write(tensors);
    return Digest();
  }
  absl::StatusOr<std::string> Rows(size_t layer) {
    auto checkpoint = Checkpoint::Open(dir_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    auto reader = TableReader::Open(*checkpoint);
    if (!reader.ok()) return reader.status();
    const uint64_t rows = checkpoint->geometry().layers()[layer].rows;
    std::string out(rows * checkpoint->layout().row_bytes(), '\0');
    absl::Status status = (*reader)->Read(layer, 0, rows, reinterpret_cast<uint8_t*>(out.data()));
    if (!status.ok()) return status;
    return out;
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
};

bool IsScale(const TestTensor& tensor) { return absl::EndsWith(tensor.name, ".scale"); }

void AppendF32(std::string& out, uint32_t bits) {
  out.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
}

// The scales as f32 powers of two.
void ToF32(TestTensor& tensor) {
  if (!IsScale(tensor)) return;
  std::string floats;
  for (const char byte : tensor.data) {
    const uint32_t e = static_cast<uint8_t>(byte);
    AppendF32(floats, e == 0 ? uint32_t{1} << 22 : e << 23);
  }
  tensor.dtype = "F32";
  tensor.data = floats;
}

TEST_F(ExportsTest, OneTableHasOneDigestHoweverItIsSpelled) {
  tiny_.WriteOneFile(dir_.path());
  EXPECT_THAT(Digest(), IsOkAndHolds(kTinyDigest));
  for (const char* dtype : {"U8", "I8"}) {
    EXPECT_THAT(DigestWith([&](TestTensor& tensor) {
                  if (!IsScale(tensor)) tensor.dtype = dtype;
                }),
                IsOkAndHolds(kTinyDigest));
    EXPECT_THAT(DigestWith([&](TestTensor& tensor) { tensor.dtype = dtype; }),
                IsOkAndHolds(kTinyDigest));
  }
  EXPECT_THAT(DigestWith(ToF32), IsOkAndHolds(kTinyDigest));
  EXPECT_THAT(DigestWith([](TestTensor& tensor) { tensor.name = "model.x." + tensor.name; }),
              IsOkAndHolds(kTinyDigest));
  std::vector<TestTensor> reversed = tiny_.Tensors();
  std::reverse(reversed.begin(), reversed.end());
  Write(reversed);
  EXPECT_THAT(Digest(), IsOkAndHolds(kTinyDigest));
  std::filesystem::remove(dir_.File("model.safetensors"));
  tiny_.WriteIndexed(dir_.path());
  EXPECT_THAT(Digest(), IsOkAndHolds(kTinyDigest));
}

TEST_F(ExportsTest, AnotherSeedOrOneFlippedBitIsAnotherTable) {
  bool flipped = false;
  const auto digest = DigestWith([&](TestTensor& tensor) {
    if (!flipped) tensor.data[77] = static_cast<char>(tensor.data[77] ^ 1);
    flipped = true;
  });
  ASSERT_THAT(digest, IsOk());
  EXPECT_NE(*digest, kTinyDigest);
  tiny_.seed = 8;
  const auto other = DigestWith([](TestTensor&) {});
  ASSERT_THAT(other, IsOk());
  EXPECT_NE(*other, kTinyDigest);
}

TEST_F(ExportsTest, EveryScaleThatUe8m0HoldsIsTaken) {
  uint32_t next = 0;
  const auto digest = DigestWith([&](TestTensor& tensor) {
    if (!IsScale(tensor)) return;
    for (char& byte : tensor.data) byte = static_cast<char>(next++ % 255);
    ToF32(tensor);
  });
  ASSERT_THAT(digest, IsOk());
  ASSERT_GT(next, 255u);
  ASSERT_OK_AND_ASSIGN(const std::string rows, Rows(0));
  for (size_t row = 0, e = 0; row < rows.size() / 66; ++row) {
    for (size_t i = 0; i < 2; ++i, ++e) {
      EXPECT_EQ(static_cast<uint8_t>(rows[row * 66 + 64 + i]), e % 255);
    }
  }
}

TEST_F(ExportsTest, OtherF32ScalesAreRefused) {
  struct Case {
    const char* what;
    uint32_t bits;
  };
  for (const Case& c :
       {Case{"0", 0}, Case{"1.5", 0x3FC00000}, Case{"-1", 0xBF800000}, Case{"infinity", 0x7F800000},
        Case{"NaN", 0x7FC00000}, Case{"2^-128", 0x00200000}, Case{"next to 1", 0x3F800001}}) {
    SCOPED_TRACE(c.what);
    EXPECT_THAT(
        DigestWith([&](TestTensor& tensor) {
          ToF32(tensor);
          if (tensor.name != "layers.3.engram.embed.scale") return;
          tensor.data.replace((41 * 2 + 1) * 4, 4, reinterpret_cast<const char*>(&c.bits), 4);
        }),
        StatusIs(kInvalid, dir_.File("model.safetensors") +
                               ": tensor `layers.3.engram.embed.scale`: scale 1 of row 41 is not a "
                               "power of two from 2^-127 to 2^127"));
  }
}

TEST_F(ExportsTest, TwoTensorsForOneLayerAreRefused) {
  tiny_.WriteConfig(dir_.path());
  std::vector<TestTensor> tensors = tiny_.Tensors();
  tensors.push_back(tensors[0]);
  tensors.back().name = "mtp.layers.1.engram.embed.weight";
  Write(tensors);
  EXPECT_THAT(Digest(), StatusIs(kInvalid,
                                 "tensor `mtp.layers.1.engram.embed.weight` is a second table of "
                                 "layer 1 beside `layers.1.engram.embed.weight`"));
}

// ---------------------------------------------------------------- the paper's demo

class PaperTest : public ExportsTest {
 protected:
  static constexpr uint32_t kValues = 6;
  void SetUp() override {
    WriteTestFile(dir_.File("config.json"),
                  R"({"layer_ids": [1, 5], "max_ngram_size": 3, "n_head_per_ngram": 2,
                      "engram_vocab_size": [20, 30], "n_embed_per_ngram": 12, "pad_id": 2,
                      "seed": 0, "compressed_vocab_size": 97})");
  }
  // Primes from 20 on: 23, 29; from 30 on: 31, 37; then 41, 43 and 47, 53.
  static constexpr uint64_t kRows[] = {120, 184};
  static std::string Data(size_t layer, uint32_t value_bytes) {
    std::string data(kRows[layer] * kValues * value_bytes, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + layer);
    return data;
  }
  static std::vector<TestTensor> Tables(const std::string& dtype, uint32_t value_bytes) {
    std::vector<TestTensor> tensors = {{"value_proj.weight", "F32", {1}, "1234"}};
    for (size_t i = 0; i < 2; ++i) {
      tensors.push_back(
          {absl::StrCat("blocks.", i == 0 ? 1 : 5, ".engram.multi_head_embedding.embedding.weight"),
           dtype,
           {kRows[i], kValues},
           Data(i, value_bytes)});
    }
    return tensors;
  }
};

TEST_F(PaperTest, OneMatrixPerLayerOfAnyFloatType) {
  std::vector<std::string> digests;
  for (const auto& [dtype, type, bytes] : {std::tuple("BF16", ValueType::kBf16, 2),
                                           {"F16", ValueType::kF16, 2},
                                           {"F32", ValueType::kF32, 4}}) {
    Write(Tables(dtype, bytes));
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
    EXPECT_EQ(checkpoint.layout(), (RowLayout{type, kValues, ScaleType::kNone, 0}));
    EXPECT_THAT(Rows(0), IsOkAndHolds(Data(0, bytes)));
    EXPECT_THAT(Rows(1), IsOkAndHolds(Data(1, bytes)));
    ASSERT_OK_AND_ASSIGN(digests.emplace_back(), Digest());
  }
  EXPECT_EQ(digests[0], kPaperBf16Digest);
  // Of the same bytes in the first two: the row layout is part of what a table is.
  EXPECT_NE(digests[0], digests[1]);
  EXPECT_NE(digests[1], digests[2]);
}

TEST_F(PaperTest, RefusesOtherTypesAndMixedOnes) {
  Write(Tables("F64", 8));
  EXPECT_THAT(Digest(), StatusIs(kInvalid, "is F64; a table of such a model is BF16, F16 or F32"));
  std::vector<TestTensor> tensors = Tables("BF16", 2);
  tensors[2].dtype = "F16";
  Write(tensors);
  EXPECT_THAT(Digest(),
              StatusIs(kInvalid,
                       "tensor `blocks.5.engram.multi_head_embedding.embedding.weight` is F16, but "
                       "`blocks.1.engram.multi_head_embedding.embedding.weight` of the same table "
                       "is bf16"));
  tensors.pop_back();
  Write(tensors);
  EXPECT_THAT(
      Digest(),
      StatusIs(kInvalid,
               "tensor `layers.5.engram.multi_head_embedding.embedding.weight` is missing"));
}

// ---------------------------------------------------------------- Qwen4-Exp

class PleTest : public ExportsTest {
 protected:
  static constexpr uint64_t kRows = 192;  // 29 + 31 + 37 + 41 = 138, rounded up to 64s
  static constexpr char kPrefix[] = "model.language_model.layers.1.ple.ple_embedding.";
  void SetUp() override {
    WriteTestFile(dir_.File("config.json"),
                  R"({"model_type": "qwen4_exp", "text_config": {"ple_layer_ids": [2],
                      "ngram_size": 3, "heads_per_ngram": 2, "ngram_vocab_size_base": 28,
                      "make_ngram_vocab_size_divisible_by": 64, "ple_embed_dim": 640,
                      "vocab_size": 50, "eos_token_id": [49, 7]}})");
  }
  static std::string Data() {
    std::string data(kRows * 160, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 11 + i / 160);
    return data;
  }
  static TestTensor Part(uint32_t number, uint64_t begin, uint64_t end) {
    return {absl::StrCat(kPrefix, "ngram_embedding.shard_", number, ".weight"),
            "F8_E4M3",
            {end - begin, 160},
            Data().substr(begin * 160, (end - begin) * 160)};
  }
};

TEST_F(PleTest, APartedTableAndAWholeOneAreTheSame) {
  Write({{absl::StrCat(kPrefix, "layer_multipliers"), "I64", {3}, std::string(24, 'm')},
         Part(2, 100, 192),
         Part(0, 0, 50),
         Part(1, 50, 100)});
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_.path()));
  EXPECT_EQ(checkpoint.config().model, "qwen4_exp");
  EXPECT_EQ(checkpoint.geometry().layers()[0].layer_id, 2u);
  EXPECT_EQ(checkpoint.layout(), (RowLayout{ValueType::kFp8E4M3, 160, ScaleType::kNone, 0}));
  EXPECT_EQ(checkpoint.layout().row_bytes(), 160u);
  EXPECT_EQ(checkpoint.token_map()->tokens(), 50u);
  EXPECT_EQ(checkpoint.token_map()->compressed_count(), 50u);
  EXPECT_THAT(Rows(0), IsOkAndHolds(Data()));
  ASSERT_OK_AND_ASSIGN(const auto reader, TableReader::Open(checkpoint));
  for (const auto& [begin, count] : {std::pair<uint64_t, uint64_t>{49, 2}, {99, 1}, {40, 100}}) {
    std::string out(count * 160, '\0');
    ASSERT_THAT(reader->Read(0, begin, count, reinterpret_cast<uint8_t*>(out.data())), IsOk());
    EXPECT_EQ(out, Data().substr(begin * 160, count * 160));
  }
  ASSERT_OK_AND_ASSIGN(const std::string digest, Digest());
  EXPECT_EQ(digest, kPleDigest);
  TestTensor whole = Part(0, 0, 192);
  whole.name = absl::StrCat(kPrefix, "ngram_embedding.weight");
  Write({whole});
  EXPECT_THAT(Digest(), IsOkAndHolds(kPleDigest));
}

TEST_F(PleTest, RefusesPartsThatDoNotMakeUpTheTable) {
  Write({Part(0, 0, 50), Part(2, 50, 192)});
  EXPECT_THAT(Digest(), StatusIs(kInvalid, "part 1 of the table of layer 2 is missing before"));
  Write({Part(0, 0, 50), Part(1, 50, 100)});
  EXPECT_THAT(Digest(), StatusIs(kInvalid,
                                 "the 2 parts of the table of layer 2 have 100 rows, but the "
                                 "configuration gives 192"));
  Write({Part(0, 0, 150), Part(1, 50, 192)});
  EXPECT_THAT(Digest(), StatusIs(kInvalid, "has shape [142, 160]"));
  TestTensor whole = Part(0, 0, 192);
  whole.name = absl::StrCat(kPrefix, "ngram_embedding.weight");
  Write({whole, Part(0, 0, 192)});
  EXPECT_THAT(Digest(), StatusIs(kInvalid, "is a second table of layer 2 beside"));
}

}  // namespace
}  // namespace engram

#include "storage/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/sidecar.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using ::testing::ElementsAre;

constexpr auto kMissing = absl::StatusCode::kNotFound;

const TensorPlace& Weight(const Checkpoint& checkpoint, size_t layer) {
  return checkpoint.layers()[layer].fields[0].pieces[0].place;
}

class CheckpointTest : public ::testing::Test {
 protected:
  absl::StatusOr<Checkpoint> Open() { return Checkpoint::Open(dir_.path()); }

  // The tiny checkpoint in one file, its tensors changed.
  void WriteWith(const std::vector<TestTensor>& tensors) {
    tiny_.WriteConfig(dir_.path());
    WriteTestFile(dir_.File("model.safetensors"), SafetensorsBytes(tensors));
  }
  absl::Status OpenWith(const std::vector<TestTensor>& tensors) {
    WriteWith(tensors);
    return Open().status();
  }
  absl::Status OpenWithConfig(absl::string_view field, const nlohmann::json& value) {
    tiny_.WriteOneFile(dir_.path());
    nlohmann::json config = tiny_.Config();
    config["text_config"][std::string(field)] = value;
    WriteTestFile(dir_.File("config.json"), config.dump());
    return Open().status();
  }
  void WriteIndex(const nlohmann::json& index) {
    WriteTestFile(dir_.File("model.safetensors.index.json"), index.dump());
  }

  TempDir dir_;
  TinyCheckpoint tiny_;
};

TEST_F(CheckpointTest, OpensOneFile) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  EXPECT_EQ(checkpoint.directory(), dir_.path());
  EXPECT_EQ(checkpoint.sidecar_path(), dir_.File("engram.sidecar"));
  EXPECT_EQ(checkpoint.config().model, "tiny");
  EXPECT_EQ(checkpoint.layout(), PackedFp8Layout(64));
  EXPECT_FALSE(checkpoint.token_map().has_value());
  ASSERT_EQ(checkpoint.layers().size(), 2u);
  const TensorPlace& weight = Weight(checkpoint, 1);
  const TensorPlace& scale = checkpoint.layers()[1].fields[1].pieces[0].place;
  const uint64_t rows = checkpoint.geometry().layers()[1].rows;
  EXPECT_EQ(checkpoint.layers()[1].layer, 3u);
  EXPECT_EQ(weight.name, "layers.3.engram.embed.weight");
  EXPECT_EQ(weight.file, "model.safetensors");
  EXPECT_EQ(weight.dtype, "F8_E4M3");
  EXPECT_THAT(weight.shape, ElementsAre(rows, 64));
  EXPECT_EQ(weight.bytes, rows * 64);
  EXPECT_THAT(scale.shape, ElementsAre(rows, 2));
  EXPECT_EQ(scale.file_offset, weight.file_offset + rows * 64);
}

TEST_F(CheckpointTest, OpensManyFilesWithAnIndex) {
  tiny_.WriteIndexed(dir_.path());
  WriteTestFile(dir_.File("unrelated.safetensors"), "damaged, but not in the index");
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  EXPECT_EQ(Weight(checkpoint, 0).file, "model-00001-of-00009.safetensors");
  EXPECT_EQ(checkpoint.layers()[0].fields[1].pieces[0].place.file,
            "model-00002-of-00009.safetensors");
  EXPECT_EQ(Weight(checkpoint, 1).file, "model-00003-of-00009.safetensors");
}

TEST_F(CheckpointTest, OpensManyFilesWithoutAnIndex) {
  tiny_.WriteIndexed(dir_.path());
  std::filesystem::remove(dir_.File("model.safetensors.index.json"));
  WriteTestFile(dir_.File("other.safetensors"), SafetensorsBytes({{"x", "U8", {1}, "x"}}));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  EXPECT_EQ(Weight(checkpoint, 1).file, "model-00003-of-00009.safetensors");
}

TEST_F(CheckpointTest, LayersFollowTheConfigurationAndNamesMayHaveAPrefix) {
  tiny_.layer_ids = {14, 1};
  tiny_.prefix = "model.language_model.";
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  EXPECT_EQ(checkpoint.layers()[0].layer, 14u);
  EXPECT_EQ(Weight(checkpoint, 0).name, "model.language_model.layers.14.engram.embed.weight");
  EXPECT_EQ(checkpoint.layers()[1].layer, 1u);
}

TEST_F(CheckpointTest, IgnoresTensorsThatOnlyLookAlike) {
  std::vector<TestTensor> tensors = tiny_.Tensors();
  for (const char* name :
       {"xlayers.1.engram.embed.weight", "layers.01.engram.embed.weight",
        "layers.+1.engram.embed.weight", "layers.x.engram.embed.weight", "1.engram.embed.weight",
        ".engram.embed.weight", "layers.1.engram.embed.weight.bak", "layers.1.engram.wkv.weight",
        "layers.99999999999.engram.embed.weight"}) {
    tensors.push_back({name, "U8", {1}, "x"});
  }
  EXPECT_THAT(OpenWith(tensors), IsOk());
}

TEST_F(CheckpointTest, TakesTheSidecarPathGiven) {
  tiny_.WriteOneFile(dir_.path());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint,
                       Checkpoint::Open(dir_.path(), {dir_.File("elsewhere")}));
  EXPECT_EQ(checkpoint.sidecar_path(), dir_.File("elsewhere"));
}

TEST_F(CheckpointTest, RefusesWhatIsNotThere) {
  EXPECT_THAT(Checkpoint::Open(dir_.File("absent")),
              StatusIs(kMissing, dir_.File("absent") + ": no such directory"));
  EXPECT_THAT(Open(), StatusIs(kMissing, dir_.File("config.json")));
  tiny_.WriteConfig(dir_.path());
  EXPECT_THAT(Open(), StatusIs(kMissing, dir_.path() + ": no *.safetensors file"));
}

TEST_F(CheckpointTest, RefusesConfigurationsThatContradictThemselvesOrTheTables) {
  EXPECT_THAT(OpenWithConfig("engram_n_heads", "two"), StatusIs(kInvalid, "engram_n_heads"));
  EXPECT_THAT(OpenWithConfig("engram_num_embeddings", {1, 2}),
              StatusIs(kInvalid, "rows per layer, but the checkpoint states [1, 2]"));
  EXPECT_THAT(OpenWithConfig("engram_layer_ids", {1, 1}),
              StatusIs(kInvalid, dir_.File("config.json") + ": geometry: layer 1 is listed twice"));
  EXPECT_THAT(OpenWithConfig("engram_head_dim", 48),
              StatusIs(kInvalid, "field `engram_head_dim` is 48, not a multiple of 32"));
  EXPECT_THAT(OpenWithConfig("engram_head_dim", 96),
              StatusIs(kInvalid, "tensor `layers.1.engram.embed.weight` has shape ["));
}

// Each field within its bounds, but not what they come to.
TEST_F(CheckpointTest, RefusesConfigurationsThatAskForTooMuchTogether) {
  nlohmann::json config = {{"layer_ids", {1, 3}},
                           {"max_ngram_size", kMaxNgram},
                           {"n_head_per_ngram", kMaxHeads},
                           {"engram_vocab_size", std::vector<uint64_t>(7, kMaxBucketFloor)},
                           {"n_embed_per_ngram", 65536 * kMaxHeads},
                           {"pad_id", 2},
                           {"seed", 0},
                           {"compressed_vocab_size", 97}};
  const std::string path = dir_.File("config.json");
  WriteTestFile(path, config.dump());
  constexpr auto kRange = absl::StatusCode::kOutOfRange;
  EXPECT_THAT(Open(), StatusIs(kRange, path + ": the configuration's tables of 98"));
  EXPECT_THAT(Open(), StatusIs(kRange, "rows of 65536 values are larger than any file"));
  for (uint32_t layer = 0; layer < 37; ++layer) config["layer_ids"][layer] = layer;
  WriteTestFile(path, config.dump());
  EXPECT_THAT(Open(), StatusIs(kInvalid, path + ": geometry: 37 layers of 448 columns (7 n-gram "
                                                "orders of 64 heads) are 16576 columns"));
}

TEST_F(CheckpointTest, RefusesACheckpointOfAnotherModel) {
  // Without Engram.
  tiny_.WriteOneFile(dir_.path());
  WriteTestFile(dir_.File("config.json"),
                R"({"model_type": "llama", "hidden_size": 4096, "vocab_size": 32000})");
  EXPECT_THAT(Open(), StatusIs(kInvalid, dir_.File("config.json") + " has no Engram fields"));
  // The configuration of one model, the tables of another.
  WriteTestFile(dir_.File("config.json"),
                R"({"layer_ids": [1, 3], "max_ngram_size": 3, "n_head_per_ngram": 2,
                    "engram_vocab_size": [50, 50], "n_embed_per_ngram": 128, "pad_id": 2,
                    "seed": 0, "compressed_vocab_size": 97})");
  EXPECT_THAT(
      Open(),
      StatusIs(kInvalid, dir_.path() + ": tensor `layers.1.engram.multi_head_embedding.embedding."
                                       "weight` is missing"));
  // The tokenizer of another model.
  tiny_.WriteConfig(dir_.path());
  WriteTestFile(dir_.File("tokenizer.json"),
                R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}})");
  EXPECT_THAT(Open(), StatusIs(kInvalid, dir_.File("config.json") +
                                             ": the tokenizer compresses to 2 ids, but the "
                                             "configuration's `engram_compressed_vocab_size` is "
                                             "97"));
}

TEST_F(CheckpointTest, RefusesMissingTensors) {
  EXPECT_THAT(OpenWith({tiny_.Weight(1), tiny_.Scale(1), tiny_.Weight(3)}),
              StatusIs(kInvalid, "tensor `layers.3.engram.embed.scale` is missing"));
  EXPECT_THAT(OpenWith({tiny_.Weight(1), tiny_.Scale(1), tiny_.Scale(3)}),
              StatusIs(kInvalid, "tensor `layers.3.engram.embed.weight` is missing"));
  EXPECT_THAT(OpenWith({{"x", "U8", {1}, "x"}}),
              StatusIs(kInvalid, "tensor `layers.1.engram.embed.weight` is missing"));
}

TEST_F(CheckpointTest, RefusesRowsThatContradictTheGeometry) {
  std::vector<TestTensor> tensors = tiny_.Tensors();
  TestTensor& scale = tensors[3];
  const uint64_t rows = scale.shape[0]--;
  scale.data.resize(scale.data.size() - 2);
  EXPECT_THAT(OpenWith(tensors),
              StatusIs(kInvalid,
                       absl::StrCat(dir_.File("model.safetensors"),
                                    ": tensor `layers.3.engram.embed.scale` has shape [", rows - 1,
                                    ", 2], but the configuration gives [", rows, ", 2]")));
  tensors = tiny_.Tensors();
  tensors[0].shape = {tensors[0].data.size()};
  EXPECT_THAT(OpenWith(tensors),
              StatusIs(kInvalid, "tensor `layers.1.engram.embed.weight` has shape ["));
}

TEST_F(CheckpointTest, RefusesOtherDtypes) {
  std::vector<TestTensor> tensors = tiny_.Tensors();
  tensors[0].dtype = "F8_E5M2";
  EXPECT_THAT(OpenWith(tensors),
              StatusIs(kInvalid,
                       "tensor `layers.1.engram.embed.weight` is F8_E5M2; a table of such a model "
                       "is F8_E4M3, U8 or I8"));
  tensors = tiny_.Tensors();
  tensors[1].dtype = "F64";
  tensors[1].data.resize(tensors[1].data.size() * 8);
  EXPECT_THAT(OpenWith(tensors),
              StatusIs(kInvalid,
                       "tensor `layers.1.engram.embed.scale` is F64; scales are F8_E8M0, U8, I8 or "
                       "F32 here"));
}

// Runs as a user without privileges where the test runs as root, whom no mode keeps out.
TEST_F(CheckpointTest, RefusesWhatMayNotBeRead) {
  tiny_.WriteIndexed(dir_.path());
  const bool root = geteuid() == 0;
  const auto open_unprivileged = [&] {
    EXPECT_EQ(root ? seteuid(65534) : 0, 0);
    const absl::Status status = Open().status();
    EXPECT_EQ(root ? seteuid(0) : 0, 0);
    return status;
  };
  const std::filesystem::path directory = dir_.path();
  const std::filesystem::path table = dir_.File("model-00002-of-00009.safetensors");
  std::filesystem::permissions(directory, std::filesystem::perms::all);
  std::filesystem::permissions(table, std::filesystem::perms::none);
  EXPECT_THAT(open_unprivileged(), StatusIs(absl::StatusCode::kPermissionDenied, table.string()));
  std::filesystem::permissions(table, std::filesystem::perms::all);
  std::filesystem::permissions(directory, std::filesystem::perms::none);
  EXPECT_THAT(open_unprivileged(),
              StatusIs(absl::StatusCode::kPermissionDenied, dir_.path() + "/config.json"));
  // Files that can be opened by name, but not listed.
  std::filesystem::remove(dir_.File("model.safetensors.index.json"));
  std::filesystem::permissions(directory, static_cast<std::filesystem::perms>(0111));
  EXPECT_THAT(open_unprivileged(), StatusIs(absl::StatusCode::kPermissionDenied,
                                            "cannot list " + dir_.path() + ": Permission denied"));
  std::filesystem::permissions(directory, std::filesystem::perms::all);
}

TEST_F(CheckpointTest, RefusesLinksInALoop) {
  tiny_.WriteIndexed(dir_.path());
  const std::string table = dir_.File("model-00002-of-00009.safetensors");
  std::filesystem::remove(table);
  std::filesystem::create_symlink(table, table);
  EXPECT_THAT(Open(), StatusIs(kInvalid, absl::StrCat("cannot open ", table, ": Too many levels")));
  std::filesystem::remove(table);
  const std::string config = dir_.File("config.json");
  std::filesystem::remove(config);
  std::filesystem::create_symlink(config, config);
  EXPECT_THAT(Open(), StatusIs(kInvalid, "cannot open " + config + ": Too many levels"));
  std::filesystem::remove(config);
  tiny_.WriteConfig(dir_.path());
  // What need not be there must not pass for absent.
  for (const char* name : {"tokenizer.json", "engram.sidecar", "model.safetensors.index.json"}) {
    const std::string optional = dir_.File(name);
    std::filesystem::remove(optional);
    std::filesystem::create_symlink(optional, optional);
    EXPECT_THAT(Open(), StatusIs(kInvalid, "cannot look at " + optional + ": Too many levels"))
        << name;
    std::filesystem::remove(optional);
  }
  const std::string directory = dir_.File("loop");
  std::filesystem::create_directory_symlink(directory, directory);
  EXPECT_THAT(Checkpoint::Open(directory),
              StatusIs(kInvalid, "cannot look at " + directory + ": Too many levels"));
}

TEST_F(CheckpointTest, LinksToTablesElsewhereAreFollowed) {
  TempDir blobs;
  tiny_.WriteOneFile(dir_.path());
  std::filesystem::rename(dir_.File("model.safetensors"), blobs.File("5a1f"));
  std::filesystem::create_symlink(blobs.File("5a1f"), dir_.File("model.safetensors"));
  EXPECT_THAT(Open(), IsOk());
}

// As a directory that was copied over itself under another name.
TEST_F(CheckpointTest, RefusesAFileThatIsThereTwice) {
  tiny_.WriteOneFile(dir_.path());
  std::filesystem::create_hard_link(dir_.File("model.safetensors"), dir_.File("two.safetensors"));
  EXPECT_THAT(Open(),
              StatusIs(kInvalid, dir_.File("two.safetensors") +
                                     ": tensor `layers.1.engram.embed.scale` is a second table of "
                                     "layer 1 beside `layers.1.engram.embed.scale` of "
                                     "model.safetensors"));
}

TEST_F(CheckpointTest, RefusesTwoTensorsForOneLayer) {
  std::vector<TestTensor> tensors = tiny_.Tensors();
  tiny_.prefix = "model.";
  tensors.push_back(tiny_.Weight(1));
  EXPECT_THAT(OpenWith(tensors), StatusIs(kInvalid, "is a second table of layer 1 beside `"));

  tiny_.prefix = "";
  tiny_.WriteOneFile(dir_.path());
  WriteTestFile(dir_.File("copy.safetensors"), SafetensorsBytes({tiny_.Scale(3)}));
  EXPECT_THAT(Open(), StatusIs(kInvalid, "is a second table of layer 3 beside `"));
}

TEST_F(CheckpointTest, RefusesATableOfALayerThatTheConfigurationLacks) {
  std::vector<TestTensor> tensors = tiny_.Tensors();
  tensors.push_back({"layers.5.engram.embed.weight", "F8_E4M3", {1, 64}, std::string(64, 'x')});
  EXPECT_THAT(OpenWith(tensors),
              StatusIs(kInvalid, "is a table of layer 5, which the configuration"));
}

TEST_F(CheckpointTest, RefusesDamagedFiles) {
  tiny_.WriteOneFile(dir_.path());
  const std::string path = dir_.File("model.safetensors");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(Open(), StatusIs(kInvalid, "truncated"));
  EXPECT_THAT(Open(), StatusIs(kInvalid, path));
}

TEST_F(CheckpointTest, RefusesBadIndexes) {
  tiny_.WriteConfig(dir_.path());
  const std::string name = "layers.1.engram.embed.weight";
  const std::string path = dir_.File("model.safetensors.index.json");
  WriteTestFile(path, "{");
  EXPECT_THAT(Open(), StatusIs(kInvalid, path));
  // A tensor listed twice: the reader that keeps either place would be guessing.
  WriteTestFile(path, absl::StrCat(R"({"weight_map": {")", name, R"(": "a.safetensors", ")", name,
                                   R"(": "b.safetensors"}})"));
  EXPECT_THAT(Open(), StatusIs(kInvalid, absl::StrCat(path, ": key `", name, "` appears twice")));
  WriteIndex({{"weight_map", 3}});
  EXPECT_THAT(Open(), StatusIs(kInvalid, "field `weight_map` is missing or not a JSON object"));
  WriteIndex({{"weight_map", {{name, 3}}}});
  EXPECT_THAT(Open(), StatusIs(kInvalid, absl::StrCat("field `", name, "` is not a file name")));
  for (const char* file : {"../a.safetensors", "/etc/passwd", "..", ""}) {
    WriteIndex({{"weight_map", {{name, file}}}});
    EXPECT_THAT(Open(), StatusIs(kInvalid, "which is not a file of the directory"));
  }
  WriteIndex({{"weight_map", {{name, "a.safetensors"}}}});
  EXPECT_THAT(Open(), StatusIs(kMissing, absl::StrCat(dir_.File("a.safetensors"),
                                                      ": the file is missing; "
                                                      "model.safetensors.index.json places `",
                                                      name, "` in it")));
  WriteTestFile(dir_.File("a.safetensors"), SafetensorsBytes({{"x", "U8", {1}, "x"}}));
  EXPECT_THAT(Open(), StatusIs(kInvalid, absl::StrCat("holds no tensor `", name, "`")));
}

TEST_F(CheckpointTest, TakesTheTokenMapFromTheSidecar) {
  tiny_.WriteOneFile(dir_.path());
  std::vector<uint32_t> ids(tiny_.compressed_vocab);
  std::iota(ids.begin(), ids.end(), 0u);
  Sidecar sidecar;
  ASSERT_OK_AND_ASSIGN(sidecar.token_map, TokenMap::Create(ids));
  ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar), IsOk());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_TRUE(checkpoint.token_map().has_value());
  EXPECT_EQ(checkpoint.token_map()->sha256(), sidecar.token_map->sha256());

  // A map of another size would rehash the whole table.
  ids.pop_back();
  ASSERT_OK_AND_ASSIGN(sidecar.token_map, TokenMap::Create(ids));
  ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar), IsOk());
  EXPECT_THAT(Open(), StatusIs(kInvalid, "the tokenizer compresses to 96 ids"));
}

// Bytes that are no tokenizer show which of the two is used.
TEST_F(CheckpointTest, ATokenizerThatTheSidecarKnowsIsNotReadAgain) {
  tiny_.WriteOneFile(dir_.path());
  WriteTestFile(dir_.File("tokenizer.json"), "a tokenizer");
  std::vector<uint32_t> ids(tiny_.compressed_vocab);
  std::iota(ids.begin(), ids.end(), 0u);
  Sidecar sidecar;
  ASSERT_OK_AND_ASSIGN(sidecar.token_map, TokenMap::Create(ids));
  sidecar.tokenizer_sha256 = Sha256Of("a tokenizer");
  ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar), IsOk());
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  EXPECT_EQ(checkpoint.token_map()->sha256(), sidecar.token_map->sha256());
  EXPECT_EQ(checkpoint.tokenizer_sha256(), sidecar.tokenizer_sha256);

  sidecar.tokenizer_sha256 = Sha256Of("another");
  ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar), IsOk());
  EXPECT_THAT(Open(), StatusIs(kInvalid, dir_.File("tokenizer.json")));
  sidecar.tokenizer_sha256.reset();
  ASSERT_THAT(WriteSidecar(dir_.File("engram.sidecar"), sidecar), IsOk());
  EXPECT_THAT(Open(), StatusIs(kInvalid, dir_.File("tokenizer.json")));
}

TEST_F(CheckpointTest, RefusesADamagedTokenizerOrSidecar) {
  tiny_.WriteOneFile(dir_.path());
  WriteTestFile(dir_.File("engram.sidecar"), "damaged");
  EXPECT_THAT(Open(), StatusIs(kInvalid, "engram.sidecar"));
  std::filesystem::remove(dir_.File("engram.sidecar"));
  WriteTestFile(dir_.File("tokenizer.json"), "damaged");
  EXPECT_THAT(Open(), StatusIs(kInvalid, "tokenizer.json"));
}

}  // namespace
}  // namespace engram

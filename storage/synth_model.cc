#include "storage/synth_model.h"

#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace engram {
namespace {

using Json = nlohmann::ordered_json;

// DeepSeek-V4.1-Flash's shape.
constexpr uint32_t kV41Layers[] = {1, 14};
constexpr uint32_t kV41FileOfLayer[] = {3, 17};  // arbitrary; the real tables sit in two files too
constexpr uint32_t kV41Files = 48;
constexpr uint32_t kHiddenLayers = 40;
constexpr uint32_t kHiddenSize = 5120;
constexpr uint32_t kHyperConnections = 4;

// The shape of the paper's demo.
constexpr uint32_t kPaperLayers[] = {1, 15};

constexpr uint32_t kHeads = 8;
constexpr uint32_t kPadToken = 2;

std::string V41FileName(uint32_t number) {
  return absl::StrCat("model-", absl::Dec(number, absl::kZeroPad5), "-of-",
                      absl::Dec(kV41Files, absl::kZeroPad5), ".safetensors");
}

std::string V41TensorName(uint32_t layer, absl::string_view half) {
  return absl::StrCat("layers.", layer, ".engram.embed.", half);
}

// Lays the tensors out one behind the other and writes the header.
SynthFile MakeFile(std::string name, std::vector<SynthTensor> tensors, const Geometry& geometry) {
  SynthFile file{std::move(name), std::move(tensors), {}, 0};
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t offset = 0;
  for (SynthTensor& tensor : file.tensors) {
    const uint64_t rows = geometry.layers()[tensor.layer_index].rows;
    tensor.data_offset = offset;
    offset += rows * tensor.row_bytes;
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", {rows, tensor.columns}},
                           {"data_offsets", {tensor.data_offset, offset}}};
  }
  std::string text = header.dump();
  while ((sizeof(uint64_t) + text.size()) % 64 != 0) text.push_back(' ');
  const uint64_t length = text.size();
  file.header.resize(sizeof(length));
  std::memcpy(file.header.data(), &length, sizeof(length));
  file.header += text;
  file.size = file.header.size() + offset;
  return file;
}

std::vector<SynthFile> V41FilesOf(const Geometry& geometry, const RowLayout& layout) {
  std::vector<SynthFile> files;
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    const uint32_t layer = geometry.layers()[i].layer_id;
    files.push_back(MakeFile(
        V41FileName(kV41FileOfLayer[i]),
        {{V41TensorName(layer, "weight"), "F8_E4M3", i, layout.values, 0, layout.value_bytes()},
         {V41TensorName(layer, "scale"), "F8_E8M0", i, layout.scales, layout.value_bytes(),
          layout.scales}},
        geometry));
  }
  return files;
}

std::vector<SynthFile> PaperFiles(const Geometry& geometry, const RowLayout& layout) {
  std::vector<SynthTensor> tensors;
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    tensors.push_back({absl::StrCat("layers.", geometry.layers()[i].layer_id,
                                    ".engram.multi_head_embedding.embedding.weight"),
                       absl::AsciiStrToUpper(ValueTypeName(layout.value_type)), i, layout.values, 0,
                       layout.row_bytes()});
  }
  return {MakeFile("model.safetensors", std::move(tensors), geometry)};
}

Json V41Config(const Geometry& geometry, const RowLayout& layout) {
  const GeometryParams& params = geometry.params();
  std::vector<uint64_t> rows;
  for (const LayerGeometry& layer : geometry.layers()) rows.push_back(layer.rows);
  Json text;
  text["vocab_size"] = kV41Vocab;
  text["hidden_size"] = kHiddenSize;
  text["num_hidden_layers"] = kHiddenLayers;
  text["hc_mult"] = kHyperConnections;
  text["engram_layer_ids"] = params.layer_ids;
  text["engram_max_ngram_size"] = params.max_ngram;
  text["engram_n_heads"] = params.heads;
  text["engram_head_dim"] = layout.values;
  text["engram_vocab_size"] = params.bucket_floors[0];
  text["engram_pad_token_id"] = params.pad_token;
  text["engram_compressed_vocab_size"] = params.compressed_vocab;
  text["engram_num_embeddings"] = rows;
  Json config;
  config["model_type"] = "engram-synth-v41-flash";
  config["text_config"] = std::move(text);
  return config;
}

Json PaperConfig(const Geometry& geometry, const RowLayout& layout, bool states_vocab) {
  const GeometryParams& params = geometry.params();
  Json config;
  config["model_type"] = "engram-synth-paper";
  config["engram_vocab_size"] = params.bucket_floors;
  config["max_ngram_size"] = params.max_ngram;
  config["n_embed_per_ngram"] = layout.values * params.heads;
  config["n_head_per_ngram"] = params.heads;
  config["layer_ids"] = params.layer_ids;
  config["pad_id"] = params.pad_token;
  config["seed"] = params.seed;
  if (states_vocab) config["compressed_vocab_size"] = params.compressed_vocab;
  return config;
}

}  // namespace

absl::StatusOr<Geometry> SynthGeometry(SynthModel model, uint64_t bucket_floor,
                                       uint32_t compressed_vocab) {
  GeometryParams params;
  if (model == SynthModel::kV41Flash) {
    params.layer_ids.assign(std::begin(kV41Layers), std::end(kV41Layers));
    params.max_ngram = 4;
  } else {
    params.layer_ids.assign(std::begin(kPaperLayers), std::end(kPaperLayers));
    params.max_ngram = 3;
  }
  params.heads = kHeads;
  params.bucket_floors.assign(params.orders(), bucket_floor);
  params.compressed_vocab = compressed_vocab;
  params.pad_token = kPadToken;
  return Geometry::Derive(params);
}

uint64_t DefaultBucketFloor(SynthModel model) {
  return model == SynthModel::kV41Flash ? 16'000'000 : 646'400;
}

uint32_t DefaultCompressedVocab(SynthModel model) {
  return model == SynthModel::kV41Flash ? 99'092 : 98'627;  // the latter: DeepSeek-V3's tokenizer
}

RowLayout SynthLayout(SynthModel model, ValueType paper_values) {
  if (model == SynthModel::kV41Flash) return PackedFp8Layout(256);
  return {paper_values, 64, ScaleType::kNone, 0};
}

std::vector<SynthFile> SynthFiles(SynthModel model, const Geometry& geometry,
                                  const RowLayout& layout) {
  return model == SynthModel::kV41Flash ? V41FilesOf(geometry, layout)
                                        : PaperFiles(geometry, layout);
}

std::string SynthConfig(SynthModel model, const Geometry& geometry, const RowLayout& layout,
                        bool states_vocab) {
  const Json config = model == SynthModel::kV41Flash ? V41Config(geometry, layout)
                                                     : PaperConfig(geometry, layout, states_vocab);
  return absl::StrCat(config.dump(2), "\n");
}

std::string SynthIndex(SynthModel model, const Geometry& geometry,
                       const std::vector<SynthFile>& files) {
  if (model != SynthModel::kV41Flash) return "";
  // The layers' own tensors lie in files 18 to 47, beside those of the tables.
  const auto file_of_layer = [](uint32_t layer) { return V41FileName(18 + layer * 3 / 4); };
  Json map;
  map["embed.weight"] = V41FileName(1);
  for (uint32_t layer = 0; layer < kHiddenLayers; ++layer) {
    map[absl::StrCat("layers.", layer, ".attn_norm.weight")] = file_of_layer(layer);
  }
  map["head.weight"] = V41FileName(kV41Files);
  for (const LayerGeometry& layer : geometry.layers()) {
    for (const char* stays : {"wkv.weight", "wkv.scale", "q_weight", "k_weight"}) {
      map[absl::StrCat("layers.", layer.layer_id, ".engram.", stays)] =
          file_of_layer(layer.layer_id);
    }
  }
  uint64_t bytes = 0;
  for (const SynthFile& file : files) {
    for (const SynthTensor& tensor : file.tensors) map[tensor.name] = file.name;
    bytes += file.size - file.header.size();
  }
  Json index;
  index["metadata"] = {{"total_size", bytes}};
  index["weight_map"] = std::move(map);
  return absl::StrCat(index.dump(2), "\n");
}

}  // namespace engram

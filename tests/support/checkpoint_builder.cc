#include "tests/support/checkpoint_builder.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "storage/synth_rows.h"

namespace engram {

TempDir::TempDir(const std::string& parent) {
  const std::filesystem::path above =
      parent.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(parent);
  std::string pattern = (above / "engram_test.XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << pattern << " failed";
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::File(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

void WriteTestFile(const std::string& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) ADD_FAILURE() << "cannot write " << path;
}

std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) ADD_FAILURE() << "cannot read " << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string SafetensorsBytes(absl::string_view header, absl::string_view data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return absl::StrCat(bytes, header, data);
}

std::string SafetensorsBytes(const std::vector<TestTensor>& tensors) {
  nlohmann::json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::string data;
  for (const TestTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return SafetensorsBytes(header.dump(), data);
}

Geometry TinyCheckpoint::DeriveGeometry() const {
  GeometryParams params;
  params.layer_ids = layer_ids;
  params.max_ngram = max_ngram;
  params.heads = heads;
  params.bucket_floors.assign(params.orders(), bucket_floor);
  params.compressed_vocab = compressed_vocab;
  params.pad_token = pad_token;
  return Geometry::Derive(params).value();
}

std::string TinyCheckpoint::Row(uint32_t layer, uint64_t row) const {
  uint8_t bytes[kSynthRowBytes];
  SynthRow(seed, layer, row, bytes);
  const char* const chars = reinterpret_cast<const char*>(bytes);
  return std::string(chars, head_dim) + std::string(chars + 256, head_dim / 32);
}

std::string TinyCheckpoint::Rows(uint32_t layer) const {
  const Geometry geometry = DeriveGeometry();
  const uint64_t rows = geometry.layers()[geometry.LayerIndex(layer).value()].rows;
  std::string bytes;
  for (uint64_t row = 0; row < rows; ++row) bytes += Row(layer, row);
  return bytes;
}

nlohmann::json TinyCheckpoint::Config() const {
  const Geometry geometry = DeriveGeometry();
  std::vector<uint64_t> rows;
  for (const LayerGeometry& layer : geometry.layers()) rows.push_back(layer.rows);
  nlohmann::json text = {{"engram_layer_ids", layer_ids},
                         {"engram_max_ngram_size", max_ngram},
                         {"engram_n_heads", heads},
                         {"engram_head_dim", head_dim},
                         {"engram_vocab_size", bucket_floor},
                         {"engram_pad_token_id", pad_token},
                         {"engram_compressed_vocab_size", compressed_vocab},
                         {"engram_num_embeddings", rows}};
  return {{"model_type", "tiny"}, {"text_config", std::move(text)}};
}

namespace {

// Columns [begin, begin + width) of all rows, as one tensor.
TestTensor Slice(const TinyCheckpoint& tiny, uint32_t layer, absl::string_view half,
                 absl::string_view dtype, size_t begin, size_t width) {
  const std::string packed = tiny.Rows(layer);
  const uint64_t rows = packed.size() / tiny.row_bytes();
  TestTensor tensor{absl::StrCat(tiny.prefix, "layers.", layer, ".engram.embed.", half),
                    std::string(dtype),
                    {rows, width},
                    {}};
  for (uint64_t row = 0; row < rows; ++row) {
    tensor.data += packed.substr(row * tiny.row_bytes() + begin, width);
  }
  return tensor;
}

}  // namespace

TestTensor TinyCheckpoint::Weight(uint32_t layer) const {
  return Slice(*this, layer, "weight", "F8_E4M3", 0, head_dim);
}

TestTensor TinyCheckpoint::Scale(uint32_t layer) const {
  return Slice(*this, layer, "scale", "F8_E8M0", head_dim, head_dim / 32);
}

std::vector<TestTensor> TinyCheckpoint::Tensors() const {
  std::vector<TestTensor> tensors;
  for (const uint32_t layer : layer_ids) {
    tensors.push_back(Weight(layer));
    tensors.push_back(Scale(layer));
  }
  return tensors;
}

void TinyCheckpoint::WriteConfig(const std::string& directory) const {
  WriteTestFile(directory + "/config.json", Config().dump(2));
}

void TinyCheckpoint::WriteOneFile(const std::string& directory) const {
  WriteConfig(directory);
  WriteTestFile(directory + "/model.safetensors", SafetensorsBytes(Tensors()));
}

void TinyCheckpoint::WriteIndexed(const std::string& directory) const {
  WriteConfig(directory);
  nlohmann::json map = {{"embed.weight", "model-00009-of-00009.safetensors"}};
  int number = 0;
  for (const TestTensor& tensor : Tensors()) {
    const std::string file = absl::StrCat("model-0000", ++number, "-of-00009.safetensors");
    map[tensor.name] = file;
    WriteTestFile(absl::StrCat(directory, "/", file), SafetensorsBytes({tensor}));
  }
  const nlohmann::json index = {{"metadata", nlohmann::json::object()}, {"weight_map", map}};
  WriteTestFile(directory + "/model.safetensors.index.json", index.dump(2));
}

}  // namespace engram

#include "storage/synth.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/base/file.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "proto/geometry.h"
#include "storage/tokenizer.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little);

// DeepSeek-V4.1-Flash's shape.
constexpr uint32_t kLayerIds[] = {1, 14};
constexpr uint32_t kShardOfLayer[] = {3, 17};  // arbitrary; the real tables sit in two shards too
constexpr uint32_t kShards = 48;
constexpr uint32_t kMaxNgramSize = 4;
constexpr uint32_t kHashHeads = 8;
constexpr uint32_t kHeadDim = 256;
constexpr uint32_t kScales = 8;
constexpr uint32_t kPadToken = 2;
constexpr uint32_t kVocab = 129'280;
constexpr uint32_t kCompressedVocab = 99'092;
constexpr uint32_t kHiddenLayers = 40;
constexpr uint32_t kHiddenSize = 5120;
constexpr uint32_t kHyperConnections = 4;

constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;
constexpr uint64_t kOnes = 0x0101010101010101;

// Rows that a thread makes and writes at a time: 2 MiB of values.
constexpr uint64_t kBatchRows = 8192;

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t LayerKey(uint64_t seed, uint32_t layer) {
  return Mix(Mix(seed + kGamma) + layer + kGamma);
}

void MakeRow(uint64_t layer_key, uint64_t row, uint8_t* values, uint8_t* scales) {
  uint64_t counter = Mix(layer_key + row + kGamma);
  for (uint32_t i = 0; i < kHeadDim; i += 8) {
    counter += kGamma;
    uint64_t word = Mix(counter);
    // Bit 7 of (b & 0x7F) + 1 is set for 0x7F and 0xFF alone: those bytes lose their lowest bit.
    word ^= ((((word & (kOnes * 0x7F)) + kOnes) >> 7) & kOnes);
    std::memcpy(values + i, &word, sizeof(word));
  }
  const uint64_t word = (Mix(counter + kGamma) & (kOnes * 15)) + kOnes * 118;
  static_assert(kScales == sizeof(word));
  std::memcpy(scales, &word, sizeof(word));
}

// --- The files ---------------------------------------------------------------------------------

std::string ShardName(uint32_t shard) {
  return absl::StrCat("model-", absl::Dec(shard, absl::kZeroPad5), "-of-",
                      absl::Dec(kShards, absl::kZeroPad5), ".safetensors");
}

std::string TensorName(uint32_t layer, absl::string_view half) {
  return absl::StrCat("layers.", layer, ".engram.embed.", half);
}

absl::Status WriteAt(int fd, const std::string& path, const void* bytes, uint64_t size,
                     uint64_t offset) {
  const char* const from = static_cast<const char*>(bytes);
  uint64_t done = 0;
  while (done < size) {
    const ssize_t put = pwrite(fd, from + done, size - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
    done += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

// One layer's file: weight, then scale.
struct TableFile {
  std::string path;
  int fd = -1;
  uint64_t layer_key = 0;
  uint64_t rows = 0;
  uint64_t weight_offset = 0;
  uint64_t scale_offset() const { return weight_offset + rows * kHeadDim; }
  uint64_t size() const { return scale_offset() + rows * kScales; }
};

// Length and JSON, padded with spaces so that the data starts at a multiple of 64.
std::string HeaderOf(uint32_t layer, uint64_t rows) {
  const uint64_t weight_bytes = rows * kHeadDim;
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  header[TensorName(layer, "weight")] = {
      {"dtype", "F8_E4M3"}, {"shape", {rows, kHeadDim}}, {"data_offsets", {0, weight_bytes}}};
  header[TensorName(layer, "scale")] = {
      {"dtype", "F8_E8M0"},
      {"shape", {rows, kScales}},
      {"data_offsets", {weight_bytes, weight_bytes + rows * kScales}}};
  std::string text = header.dump();
  while ((sizeof(uint64_t) + text.size()) % 64 != 0) text.push_back(' ');
  const uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

absl::Status WriteRows(const TableFile& file, uint64_t begin, uint64_t count,
                       std::vector<uint8_t>& values, std::vector<uint8_t>& scales) {
  for (uint64_t i = 0; i < count; ++i) {
    MakeRow(file.layer_key, begin + i, &values[i * kHeadDim], &scales[i * kScales]);
  }
  RETURN_IF_ERROR(WriteAt(file.fd, file.path, values.data(), count * kHeadDim,
                          file.weight_offset + begin * kHeadDim));
  return WriteAt(file.fd, file.path, scales.data(), count * kScales,
                 file.scale_offset() + begin * kScales);
}

// Batches are handed out by a counter; the first failure stops all threads.
absl::Status WriteAllRows(const TableFile& file) {
  std::atomic<uint64_t> next = 0;
  std::atomic<bool> failed = false;
  Mutex mutex;
  absl::Status result;
  const auto work = [&] {
    std::vector<uint8_t> values(kBatchRows * kHeadDim);
    std::vector<uint8_t> scales(kBatchRows * kScales);
    while (!failed) {
      const uint64_t begin = next.fetch_add(kBatchRows);
      if (begin >= file.rows) return;
      const uint64_t count = std::min(kBatchRows, file.rows - begin);
      absl::Status status = WriteRows(file, begin, count, values, scales);
      if (status.ok()) continue;
      failed = true;
      MutexLock lock(&mutex);
      result = std::move(status);
    }
  };
  const uint64_t batches = (file.rows + kBatchRows - 1) / kBatchRows;
  const uint64_t cores = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (uint64_t i = 1; i < std::min(batches, cores); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return result;
}

// Asks for all the space at once, so that a disk that is too small is found before it is filled.
absl::Status Reserve(const TableFile& file) {
  if (fallocate(file.fd, 0, 0, static_cast<off_t>(file.size())) == 0) return absl::OkStatus();
  if (errno == EOPNOTSUPP || errno == ENOSYS) return absl::OkStatus();
  return absl::ErrnoToStatus(errno,
                             absl::StrCat("cannot write ", file.size(), " bytes to ", file.path));
}

absl::Status WriteTable(const std::string& path, uint64_t seed, const LayerGeometry& layer) {
  TableFile file;
  file.path = path;
  file.layer_key = LayerKey(seed, layer.layer_id);
  file.rows = layer.rows;
  const std::string header = HeaderOf(layer.layer_id, layer.rows);
  file.weight_offset = header.size();
  file.fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file.fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
  absl::Status status = Reserve(file);
  if (status.ok()) status = WriteAt(file.fd, path, header.data(), header.size(), 0);
  if (status.ok()) status = WriteAllRows(file);
  // Network file systems report a full disk as late as here.
  if (close(file.fd) != 0 && status.ok()) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot close ", path));
  }
  return status;
}

// The index of a whole model of which only the table files are there.
std::string IndexText(const Geometry& geometry) {
  // The layers' own tensors lie in files 18 to 47, beside those of the tables.
  const auto file_of_layer = [](uint32_t layer) { return ShardName(18 + layer * 3 / 4); };
  Json map;
  map["embed.weight"] = ShardName(1);
  for (uint32_t layer = 0; layer < kHiddenLayers; ++layer) {
    map[absl::StrCat("layers.", layer, ".attn_norm.weight")] = file_of_layer(layer);
  }
  map["head.weight"] = ShardName(kShards);
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    const uint32_t layer = geometry.layers()[i].layer_id;
    for (const char* stays : {"wkv.weight", "wkv.scale", "q_weight", "k_weight"}) {
      map[absl::StrCat("layers.", layer, ".engram.", stays)] = file_of_layer(layer);
    }
    map[TensorName(layer, "weight")] = ShardName(kShardOfLayer[i]);
    map[TensorName(layer, "scale")] = ShardName(kShardOfLayer[i]);
  }
  Json index;
  index["metadata"] = {{"total_size", geometry.total_rows() * kSynthRowBytes}};
  index["weight_map"] = std::move(map);
  return absl::StrCat(index.dump(2), "\n");
}

std::string ConfigText(const Geometry& geometry) {
  const GeometryParams& params = geometry.params();
  std::vector<uint64_t> rows;
  for (const LayerGeometry& layer : geometry.layers()) rows.push_back(layer.rows);
  Json text;
  text["vocab_size"] = kVocab;
  text["hidden_size"] = kHiddenSize;
  text["num_hidden_layers"] = kHiddenLayers;
  text["hc_mult"] = kHyperConnections;
  text["engram_layer_ids"] = params.layer_ids;
  text["engram_max_ngram_size"] = params.max_ngram;
  text["engram_n_heads"] = params.heads;
  text["engram_head_dim"] = kHeadDim;
  text["engram_vocab_size"] = params.bucket_floors[0];
  text["engram_pad_token_id"] = params.pad_token;
  text["engram_compressed_vocab_size"] = params.compressed_vocab;
  text["engram_num_embeddings"] = rows;
  Json config;
  config["model_type"] = "engram-synth-v41-flash";
  config["text_config"] = std::move(text);
  return absl::StrCat(config.dump(2), "\n");
}

// --- The whole ---------------------------------------------------------------------------------

absl::Status PrepareDirectory(const std::string& directory) {
  if (directory.empty()) return absl::InvalidArgumentError("synth: no output directory given");
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", directory));
  fs::directory_iterator it(directory, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == "config.json" || name == "tokenizer.json" || absl::EndsWith(name, ".safetensors") ||
        absl::EndsWith(name, ".safetensors.index.json") || name == "engram.sidecar") {
      return absl::AlreadyExistsError(absl::StrCat(
          directory, " holds a checkpoint or part of one (", name, "); name another directory"));
    }
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", directory));
  return absl::OkStatus();
}

absl::StatusOr<Geometry> DeriveGeometry(uint64_t bucket_floor, uint32_t compressed_vocab) {
  GeometryParams params;
  params.layer_ids.assign(std::begin(kLayerIds), std::end(kLayerIds));
  params.max_ngram = kMaxNgramSize;
  params.heads = kHashHeads;
  params.bucket_floors.assign(params.orders(), bucket_floor);
  params.compressed_vocab = compressed_vocab;
  params.pad_token = kPadToken;
  return Geometry::Derive(params);
}

// Copies the tokenizer, padded, and returns the size of the compressed vocabulary it gives.
absl::StatusOr<uint32_t> CopyTokenizer(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(PadTokenizer(from, kVocab, to));
  ASSIGN_OR_RETURN(const TokenMap map, BuildTokenMap(to));
  return map.compressed_count();
}

absl::Status WriteCheckpoint(const SynthOptions& options, std::vector<std::string>& written) {
  const auto path_of = [&](absl::string_view name) {
    written.push_back(absl::StrCat(options.out, "/", name));
    return written.back();
  };
  uint32_t compressed_vocab = kCompressedVocab;
  if (!options.tokenizer.empty()) {
    ASSIGN_OR_RETURN(compressed_vocab, CopyTokenizer(options.tokenizer, path_of("tokenizer.json")));
  }
  ASSIGN_OR_RETURN(const Geometry geometry, DeriveGeometry(options.bucket_floor, compressed_vocab));
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    RETURN_IF_ERROR(
        WriteTable(path_of(ShardName(kShardOfLayer[i])), options.seed, geometry.layers()[i]));
  }
  RETURN_IF_ERROR(
      WriteFileAtomically(path_of("model.safetensors.index.json"), IndexText(geometry)));
  return WriteFileAtomically(path_of("config.json"), ConfigText(geometry));
}

}  // namespace

void SynthRow(uint64_t seed, uint32_t layer, uint64_t row, uint8_t out[kSynthRowBytes]) {
  MakeRow(LayerKey(seed, layer), row, out, out + kHeadDim);
}

absl::Status SynthesizeV41(const SynthOptions& options) {
  // A bucket floor out of bounds is refused before anything is written.
  RETURN_IF_ERROR(DeriveGeometry(options.bucket_floor, kCompressedVocab).status());
  RETURN_IF_ERROR(PrepareDirectory(options.out));
  std::vector<std::string> written;
  const absl::Status status = WriteCheckpoint(options, written);
  if (!status.ok()) {
    for (const std::string& path : written) unlink(path.c_str());
  }
  return status;
}

}  // namespace engram

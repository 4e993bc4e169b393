// Small checkpoints, whole or damaged, in directories that go with the test.
#ifndef ENGRAM_TESTS_SUPPORT_CHECKPOINT_BUILDER_H_
#define ENGRAM_TESTS_SUPPORT_CHECKPOINT_BUILDER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "proto/geometry.h"

namespace engram {

// A fresh directory, removed with all that is in it at the end of its life.
class TempDir {
 public:
  // Below `parent`; empty: where temporary files go.
  explicit TempDir(const std::string& parent = "");
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string File(absl::string_view name) const;  // path() / name

 private:
  std::string path_;
};

// Writes / reads a whole file; a failure fails the test.
void WriteTestFile(const std::string& path, absl::string_view bytes);
std::string ReadTestFile(const std::string& path);

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string data;
};

// The bytes of a safetensors file: from tensors, laid out one after the other, or from any text as
// its header.
std::string SafetensorsBytes(const std::vector<TestTensor>& tensors);
std::string SafetensorsBytes(absl::string_view header, absl::string_view data);

// A V4.1-shaped checkpoint of a few hundred rows. Change the fields, then write it. Row r of layer
// L holds the first `head_dim` values and `head_dim / 32` scales of SynthRow(seed, L, r).
struct TinyCheckpoint {
  std::vector<uint32_t> layer_ids = {1, 3};
  uint32_t max_ngram = 3;
  uint32_t heads = 2;
  uint64_t bucket_floor = 50;
  uint32_t head_dim = 64;
  uint32_t compressed_vocab = 97;
  uint32_t pad_token = 2;
  uint64_t seed = 7;
  std::string prefix;  // before every tensor's name: "model."

  Geometry DeriveGeometry() const;
  uint32_t row_bytes() const { return head_dim + head_dim / 32; }
  std::string Row(uint32_t layer, uint64_t row) const;  // as served
  // All rows of a layer, [rows, row_bytes], row-major.
  std::string Rows(uint32_t layer) const;

  nlohmann::json Config() const;
  TestTensor Weight(uint32_t layer) const;
  TestTensor Scale(uint32_t layer) const;
  std::vector<TestTensor> Tensors() const;  // of all layers: weight, scale, weight, ...

  // Each writes config.json too. One file, or a file per tensor with an index that also lists a
  // file that is not there.
  void WriteOneFile(const std::string& directory) const;
  void WriteIndexed(const std::string& directory) const;
  void WriteConfig(const std::string& directory) const;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_CHECKPOINT_BUILDER_H_

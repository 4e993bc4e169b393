// What a synthetic checkpoint consists of: its files, their tensors, its configuration.
#ifndef ENGRAM_STORAGE_SYNTH_MODEL_H_
#define ENGRAM_STORAGE_SYNTH_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/row_layout.h"

namespace engram {

enum class SynthModel {
  kV41Flash,  // DeepSeek-V4.1-Flash: fp8 with ue8m0 scales, a file per layer, an index
  kPaper,     // the paper's demo: one float matrix per layer, one file
};

// A part of every row of a layer, and the tensor that it makes up.
struct SynthTensor {
  std::string name;
  std::string dtype;
  size_t layer_index = 0;
  uint64_t columns = 0;     // elements of a row in the tensor
  uint32_t row_offset = 0;  // bytes, within the served row
  uint32_t row_bytes = 0;
  uint64_t data_offset = 0;  // into the file's data; by SynthFile's maker
};

struct SynthFile {
  std::string name;
  std::vector<SynthTensor> tensors;
  std::string header;  // length and JSON, padded so that the data starts at a multiple of 64
  uint64_t size = 0;   // of the whole file
};

// The geometry of such a model. InvalidArgument as Geometry::Derive.
absl::StatusOr<Geometry> SynthGeometry(SynthModel model, uint64_t bucket_floor,
                                       uint32_t compressed_vocab);

// Of the real model.
uint64_t DefaultBucketFloor(SynthModel model);
uint32_t DefaultCompressedVocab(SynthModel model);

// The layout of its rows; `paper_values`: kBf16, kF16 or kF32, of kPaper alone.
RowLayout SynthLayout(SynthModel model, ValueType paper_values);

std::vector<SynthFile> SynthFiles(SynthModel model, const Geometry& geometry,
                                  const RowLayout& layout);

// The text of config.json; `states_vocab`: the compressed vocabulary is a field of it (the paper's
// takes it from a tokenizer otherwise).
std::string SynthConfig(SynthModel model, const Geometry& geometry, const RowLayout& layout,
                        bool states_vocab);

// The text of model.safetensors.index.json, which also names tensors of files that are not there;
// empty: such a model has none.
std::string SynthIndex(SynthModel model, const Geometry& geometry,
                       const std::vector<SynthFile>& files);

inline constexpr uint32_t kV41Vocab = 129'280;  // token ids

}  // namespace engram

#endif  // ENGRAM_STORAGE_SYNTH_MODEL_H_

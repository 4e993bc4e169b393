// Which tensors of a checkpoint make up its tables, and how a row is put together from them.
#ifndef ENGRAM_STORAGE_TABLE_TENSORS_H_
#define ENGRAM_STORAGE_TABLE_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"
#include "proto/model_config.h"
#include "proto/row_layout.h"

namespace engram {

// Where a tensor's bytes lie.
struct TensorPlace {
  std::string name;
  std::string file;   // relative to the checkpoint's directory
  std::string dtype;  // as the safetensors header spells it: "F8_E4M3"
  std::vector<uint64_t> shape;
  uint64_t file_offset = 0;  // of the tensor's first byte
  uint64_t bytes = 0;
};

// How bytes of a file become bytes of a served row.
enum class Conversion : uint8_t {
  kCopy,
  // Little-endian f32, each exactly 2^(e - 127) with e in [0, 254], becomes the byte e.
  kF32ToUe8m0,
};

// A tensor that holds rows [first_row, first_row + rows) of a layer.
struct TensorPiece {
  TensorPlace place;
  uint64_t first_row = 0;
  uint64_t rows = 0;
};

// A part of every row of a layer: its values, or its scales.
struct RowField {
  uint32_t row_offset = 0;      // where it starts within the served row
  uint32_t row_bytes = 0;       // its bytes there
  uint32_t file_row_bytes = 0;  // its bytes per row in the tensors
  Conversion conversion = Conversion::kCopy;
  std::vector<TensorPiece> pieces;  // ascending, adjacent, over all rows of the layer
};

struct LayerTensors {
  uint32_t layer = 0;
  std::vector<RowField> fields;  // together they fill the row
};

struct TableTensors {
  RowLayout layout;
  std::vector<LayerTensors> layers;  // as Geometry::layers()
};

// Whether a tensor of that name belongs to a table of such a model (L: a layer, K: a part; any
// prefix that ends in a dot):
//   kV41    [PREFIX.]layers.L.engram.embed.weight and .scale
//   kPaper  [PREFIX.]L.[...]multi_head_embedding.embedding.weight, L the last number before it
//   kPle    [PREFIX.]layers.(L-1).ple.ple_embedding.ngram_embedding.weight, or .shard_K.weight
bool IsTableTensor(ModelFamily family, absl::string_view name);

// Puts the tables together from `places`, all of whose names are a table tensor's.
//   kV41    weight [rows, values] of F8_E4M3, U8 or I8 (the same bytes); scale [rows, values / 32]
//           of F8_E8M0, U8 or I8, or F32
//   kPaper  one matrix [rows, values] of BF16, F16 or F32
//   kPle    one matrix, or parts 0, 1, 2 ... one below the other, of F8_E4M3, BF16, F16 or F32
// InvalidArgument naming file and tensor: one of a layer that the configuration lacks, two for the
// same rows, a missing one, another dtype or shape, layers of different types. `directory` is for
// messages.
absl::StatusOr<TableTensors> AssembleTables(const std::string& directory, const ModelConfig& config,
                                            const Geometry& geometry,
                                            std::vector<TensorPlace> places);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TABLE_TENSORS_H_

// What one step of a model asks of a slot: row ids as engines have them, or chunks of token ids.
// Everything is borrowed until the step is done.
#ifndef ENGRAM_CLIENT_STEP_H_
#define ENGRAM_CLIENT_STEP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/row_ids.h"

namespace engram {

class Prefetch;

// Hash columns [begin, end) of a layer: those of a tensor-parallel rank's heads. {0, 0}: all.
struct ColumnRange {
  uint32_t begin = 0;
  uint32_t end = 0;

  uint32_t count() const { return end - begin; }
  bool operator==(const ColumnRange&) const = default;
};

// Row ids of one layer: that of (token, column) is element
// token * token_stride + column * column_stride. -1 asks for no row and gives zeros.
struct LayerIds {
  LayerIds(const int32_t* ids, size_t stride_of_token, size_t stride_of_column = 1)
      : narrow(ids), token_stride(stride_of_token), column_stride(stride_of_column) {}
  LayerIds(const int64_t* ids, size_t stride_of_token, size_t stride_of_column = 1)
      : wide(ids), token_stride(stride_of_token), column_stride(stride_of_column) {}

  const int32_t* narrow = nullptr;  // one of these two is set
  const int64_t* wide = nullptr;
  size_t token_stride;
  size_t column_stride;
};

// A step by row ids.
struct StepIds {
  uint32_t tokens = 0;
  std::vector<LayerIds> layers;  // one for each of the slot's layers, in their order
  // Ids count from their column's first row, not from the layer's.
  bool per_column = false;
  // The arrays hold the slot's columns alone; else all of the layer's, and the slot takes its own.
  bool own_columns = false;
  std::span<const uint8_t> mask = {};  // [tokens], or empty: a nonzero token gets zeros

  // Of one array [tokens, layers, columns], row-major.
  template <typename Id>
  static StepIds OfArray(const Id* ids, uint32_t tokens, size_t layers, size_t columns) {
    StepIds step{.tokens = tokens, .layers = {}};
    for (size_t i = 0; i < layers; ++i) {
      step.layers.emplace_back(ids + i * columns, layers * columns);
    }
    return step;
  }
};

// Some tokens of a step, all of one sequence: `tokens` with that sequence's look-back state, which
// submitting moves past them; or tokens [first, first + count) of a prefetch (Prefetch::Range),
// with the state behind which they stand, to be moved, too, or without (null).
struct StepChunk {
  std::span<const uint32_t> tokens = {};
  // [tokens], or empty: nonzero positions are not hashed and get zeros.
  std::span<const uint8_t> dead = {};
  LookBack* state = nullptr;

  const Prefetch* ahead = nullptr;
  size_t first = 0;
  size_t count = 0;

  size_t size() const { return ahead != nullptr ? count : tokens.size(); }
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_STEP_H_

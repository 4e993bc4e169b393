// Whatever names rows -> global row ids, which is what the plan takes.
#ifndef ENGRAM_CLIENT_ROW_SOURCE_H_
#define ENGRAM_CLIENT_ROW_SOURCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "client/step.h"
#include "proto/geometry.h"
#include "proto/row_ids.h"

namespace engram {

// One layer's ids of a step.
struct GivenIds {
  LayerIds ids;
  uint32_t tokens = 0;
  ColumnRange columns;  // of the layer, that are asked for
  bool per_column = false;
  bool own_columns = false;
  std::span<const uint8_t> mask = {};
};

// Whether the ids are what the plan takes, as they stand: int64, global, dense, all asked for.
bool AreGlobalRows(const GivenIds& given, size_t layer_columns);

// Fills `rows` [tokens, columns] with global row ids and kNoRow. OutOfRange naming token, column
// and id: a per-column id that is not a row of its column; global ids are looked at by the plan.
// Pure.
absl::Status ConvertIds(const GivenIds& given, const LayerGeometry& layer,
                        std::vector<int64_t>& rows);

// Compressed token ids of one sequence.
struct TokenRun {
  std::span<const uint32_t> compressed;
  std::span<const uint8_t> dead;  // as many, or empty
  LookBack before;
};

// Row ids [tokens, columns.count()] of those columns to `rows`; kNoRow for dead positions: the
// consumer masks them, so that their rows (all pad) need not travel. Pure.
void HashRun(const RowHasher& hasher, size_t layer_index, const TokenRun& run, ColumnRange columns,
             std::span<int64_t> rows);

}  // namespace engram

#endif  // ENGRAM_CLIENT_ROW_SOURCE_H_

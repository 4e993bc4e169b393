#include "client/row_source.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

template <typename Id>
absl::Status Convert(const Id* ids, const GivenIds& given, const LayerGeometry& layer,
                     int64_t* rows) {
  const ColumnRange columns = given.columns;
  if (!given.own_columns) ids += columns.begin * given.ids.column_stride;
  for (size_t token = 0; token < given.tokens; ++token) {
    if (!given.mask.empty() && given.mask[token] != 0) {
      rows = std::fill_n(rows, columns.count(), kNoRow);
      continue;
    }
    const Id* id = ids + token * given.ids.token_stride;
    for (uint32_t c = columns.begin; c < columns.end; ++c, id += given.ids.column_stride) {
      int64_t row = *id;
      if (given.per_column && row != kNoRow) {
        const HashColumn& column = layer.columns[c];
        if (static_cast<uint64_t>(row) >= column.prime) {
          return absl::OutOfRangeError(absl::StrCat("id ", row, " of token ", token, ", column ", c,
                                                    " is not one of its column's ", column.prime,
                                                    " rows"));
        }
        row += static_cast<int64_t>(column.offset);
      }
      *rows++ = row;
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool AreGlobalRows(const GivenIds& given, size_t layer_columns) {
  const size_t columns = given.columns.count();
  return given.ids.wide != nullptr && !given.per_column && given.mask.empty() &&
         (given.own_columns || columns == layer_columns) && given.ids.column_stride == 1 &&
         (given.ids.token_stride == columns || given.tokens <= 1);
}

absl::Status ConvertIds(const GivenIds& given, const LayerGeometry& layer,
                        std::vector<int64_t>& rows) {
  rows.resize(size_t{given.tokens} * given.columns.count());
  return given.ids.wide != nullptr ? Convert(given.ids.wide, given, layer, rows.data())
                                   : Convert(given.ids.narrow, given, layer, rows.data());
}

void HashRun(const RowHasher& hasher, size_t layer_index, const TokenRun& run, ColumnRange columns,
             std::span<int64_t> rows) {
  const size_t count = columns.count();
  if (count == hasher.columns()) {
    hasher.HashChunk(layer_index, run.compressed, run.dead, run.before, rows);
  } else {
    std::vector<int64_t> all(run.compressed.size() * hasher.columns());
    hasher.HashChunk(layer_index, run.compressed, run.dead, run.before, all);
    for (size_t token = 0; token < run.compressed.size(); ++token) {
      std::copy_n(all.data() + token * hasher.columns() + columns.begin, count,
                  rows.data() + token * count);
    }
  }
  for (size_t token = 0; token < run.dead.size(); ++token) {
    if (run.dead[token] != 0) std::fill_n(rows.data() + token * count, count, kNoRow);
  }
}

}  // namespace engram

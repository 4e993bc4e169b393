// Which rows a shard holds, and which server holds a row.
#ifndef ENGRAM_PROTO_RANGE_MAP_H_
#define ENGRAM_PROTO_RANGE_MAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/geometry.h"

namespace engram {

// Rows [begin, end) of one layer, global ids.
struct RowRange {
  uint32_t layer = 0;
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t rows() const { return end - begin; }
  bool operator==(const RowRange&) const = default;
};

std::string ToString(const RowRange& range);  // "layer 1 rows [0, 100)"

inline constexpr uint32_t kMaxShards = 65536;

// One of `count` shards: equal ones, or those of a shard map (proto/shard_map.h).
struct Shard {
  uint32_t index = 0;
  uint32_t count = 1;

  // "I/N" with I < N and N at most 65,536; InvalidArgument otherwise.
  static absl::StatusOr<Shard> Parse(absl::string_view text);
  std::string ToString() const;
  bool operator==(const Shard&) const = default;
};

// The ranges of an equal shard: of every layer of R rows, [R I / N, R (I + 1) / N). Empty ranges
// are left out.
std::vector<RowRange> ShardRanges(const Geometry& geometry, const Shard& shard);

// InvalidArgument: a range of a layer the geometry lacks, an empty or inverted one, one beyond the
// layer's rows, or two that overlap. Ranges may come in any order.
absl::Status ValidateRanges(const Geometry& geometry, const std::vector<RowRange>& ranges);

uint64_t TotalRows(const std::vector<RowRange>& ranges);

}  // namespace engram

#endif  // ENGRAM_PROTO_RANGE_MAP_H_

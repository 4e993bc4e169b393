#include "proto/range_map.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Decimal digits alone: SimpleAtoi would also take blanks and a plus sign.
bool ParseDigits(absl::string_view text, uint32_t& value) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }) &&
         absl::SimpleAtoi(text, &value);
}

// rows * index / count without overflow.
uint64_t ShardBorder(uint64_t rows, uint32_t index, uint32_t count) {
  __extension__ typedef unsigned __int128 uint128;
  return static_cast<uint64_t>(static_cast<uint128>(rows) * index / count);
}

}  // namespace

std::string ToString(const RowRange& range) {
  return absl::StrCat("layer ", range.layer, " rows [", range.begin, ", ", range.end, ")");
}

absl::StatusOr<Shard> Shard::Parse(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  Shard shard;
  if (parts.size() != 2 || !ParseDigits(parts[0], shard.index) ||
      !ParseDigits(parts[1], shard.count) || shard.count < 1 || shard.count > kMaxShards ||
      shard.index >= shard.count) {
    return absl::InvalidArgumentError(
        absl::StrCat("shard `", text, "` is not I/N with I < N and N in [1, ", kMaxShards, "]"));
  }
  return shard;
}

std::string Shard::ToString() const { return absl::StrCat(index, "/", count); }

std::vector<RowRange> ShardRanges(const Geometry& geometry, const Shard& shard) {
  std::vector<RowRange> ranges;
  for (const LayerGeometry& layer : geometry.layers()) {
    const RowRange range = {layer.layer_id, ShardBorder(layer.rows, shard.index, shard.count),
                            ShardBorder(layer.rows, shard.index + 1, shard.count)};
    if (range.rows() > 0) ranges.push_back(range);
  }
  return ranges;
}

absl::Status ValidateRanges(const Geometry& geometry, const std::vector<RowRange>& ranges) {
  std::vector<RowRange> sorted = ranges;
  std::sort(sorted.begin(), sorted.end(), [](const RowRange& a, const RowRange& b) {
    return a.layer != b.layer ? a.layer < b.layer : a.begin < b.begin;
  });
  for (size_t i = 0; i < sorted.size(); ++i) {
    const RowRange& range = sorted[i];
    const absl::StatusOr<size_t> index = geometry.LayerIndex(range.layer);
    if (!index.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("range of ", ToString(range), ": ", index.status().message()));
    }
    if (range.begin >= range.end) {
      return absl::InvalidArgumentError(
          absl::StrCat("range of ", ToString(range), " is empty or inverted"));
    }
    if (range.end > geometry.layers()[*index].rows) {
      return absl::InvalidArgumentError(absl::StrCat("range of ", ToString(range),
                                                     " goes beyond the layer's ",
                                                     geometry.layers()[*index].rows, " rows"));
    }
    if (i > 0 && sorted[i - 1].layer == range.layer && sorted[i - 1].end > range.begin) {
      return absl::InvalidArgumentError(
          absl::StrCat("ranges overlap: ", ToString(sorted[i - 1]), " and ", ToString(range)));
    }
  }
  return absl::OkStatus();
}

uint64_t TotalRows(const std::vector<RowRange>& ranges) {
  uint64_t rows = 0;
  for (const RowRange& range : ranges) rows += range.rows();
  return rows;
}

}  // namespace engram

#include "storage/memory_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/gather.h"

namespace engram {
namespace {

template <typename Id>
constexpr Id kNone = static_cast<Id>(~Id{0});

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryStore>> MemoryStore::Create(const Geometry& geometry,
                                                                 const RowLayout& layout,
                                                                 std::vector<RowRange> ranges) {
  RETURN_IF_ERROR(layout.Validate());
  RETURN_IF_ERROR(ValidateRanges(geometry, ranges));
  std::sort(ranges.begin(), ranges.end(), [](const RowRange& a, const RowRange& b) {
    return a.layer != b.layer ? a.layer < b.layer : a.begin < b.begin;
  });
  const uint64_t rows = TotalRows(ranges);
  ASSIGN_OR_RETURN(Arena row_arena, Arena::Create(rows * layout.row_bytes()));
  ASSIGN_OR_RETURN(Arena checksums, Arena::Create(rows * sizeof(uint32_t)));
  return std::unique_ptr<MemoryStore>(new MemoryStore(geometry, layout, std::move(ranges),
                                                      std::move(row_arena), std::move(checksums)));
}

MemoryStore::MemoryStore(const Geometry& geometry, const RowLayout& layout,
                         std::vector<RowRange> ranges, Arena rows, Arena checksums)
    : layout_(layout),
      ranges_(std::move(ranges)),
      rows_(std::move(rows)),
      checksums_(std::move(checksums)) {
  uint64_t before = 0;
  for (const RowRange& range : ranges_) {
    first_row_.push_back(before);
    before += range.rows();
  }
  for (const LayerGeometry& source : geometry.layers()) {
    Layer layer{source.layer_id, source.rows, 0, 0};
    for (size_t i = 0; i < ranges_.size(); ++i) {
      if (ranges_[i].layer != layer.id) continue;
      if (layer.count == 0) layer.first = i;
      ++layer.count;
    }
    layers_.push_back(layer);
  }
  const std::vector<uint8_t> zeros(layout_.row_bytes(), 0);
  zero_checksum_ = Crc32c(zeros.data(), zeros.size());
}

MemoryStore::Place MemoryStore::PlaceOf(size_t range, uint64_t begin) {
  const uint64_t row = first_row_[range] + (begin - ranges_[range].begin);
  return {rows_.data() + row * layout_.row_bytes(),
          reinterpret_cast<uint32_t*>(checksums_.data()) + row};
}

const MemoryStore::Layer* MemoryStore::FindLayer(uint32_t id) const {
  const auto it = std::find_if(layers_.begin(), layers_.end(),
                               [id](const Layer& layer) { return layer.id == id; });
  return it == layers_.end() ? nullptr : &*it;
}

const RowRange* MemoryStore::FindRange(const Layer& layer, uint64_t row) const {
  const auto begin = ranges_.begin() + static_cast<ptrdiff_t>(layer.first);
  const auto end = begin + static_cast<ptrdiff_t>(layer.count);
  const auto after = std::upper_bound(
      begin, end, row, [](uint64_t value, const RowRange& range) { return value < range.begin; });
  if (after == begin || row >= std::prev(after)->end) return nullptr;
  return &*std::prev(after);
}

absl::Status MemoryStore::Refuse(const Layer& layer, size_t position, uint64_t row) const {
  const std::string which = absl::StrCat("row id ", row, " at position ", position);
  if (row >= layer.rows) {
    return absl::OutOfRangeError(
        absl::StrCat(which, " is not a row of layer ", layer.id, ", which has ", layer.rows));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(which, " of layer ", layer.id, " is not held by this server"));
}

template <typename Id>
absl::Status MemoryStore::CheckIds(uint32_t id, std::span<const Id> rows) const {
  const Layer* layer = FindLayer(id);
  if (layer == nullptr) {
    return absl::NotFoundError(absl::StrCat("layer ", id, " has no table here"));
  }
  // Short ids against a range beyond them would wrap into it: those take the careful pass.
  if (layer->count == 1 && ranges_[layer->first].end <= kNone<Id>) {
    // One range: a pass without branches, which the compiler turns into vector compares. An id
    // below `begin` wraps to a huge difference.
    const RowRange& range = ranges_[layer->first];
    const Id begin = static_cast<Id>(range.begin);
    const Id count = static_cast<Id>(range.rows());
    uint32_t bad = 0;
    for (const Id row : rows) {
      bad |= static_cast<uint32_t>(static_cast<Id>(row - begin) >= count) &
             static_cast<uint32_t>(row != kNone<Id>);
    }
    if (bad == 0) return absl::OkStatus();
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != kNone<Id> && FindRange(*layer, rows[i]) == nullptr) {
      return Refuse(*layer, i, rows[i]);
    }
  }
  return absl::OkStatus();
}

template <typename Id>
absl::Status MemoryStore::GatherIds(uint32_t id, std::span<const Id> rows, uint8_t* out,
                                    uint32_t* checksums) const {
  const Layer* layer = FindLayer(id);
  if (layer == nullptr) return absl::InternalError("Gather of a layer that Check refuses");
  const size_t row_bytes = layout_.row_bytes();
  const auto gather = [&](const RowRange& range, std::span<const Id> part, uint8_t* to) {
    const uint64_t first = first_row_[static_cast<size_t>(&range - ranges_.data())];
    GatherRows(rows_.data() + first * row_bytes, row_bytes, part.data(), part.size(),
               static_cast<Id>(range.begin), to);
  };
  if (layer->count == 1) {
    gather(ranges_[layer->first], rows, out);
  } else {
    for (size_t i = 0; i < rows.size(); ++i) {
      const RowRange* range = rows[i] == kNone<Id> ? ranges_.data() : FindRange(*layer, rows[i]);
      if (range == nullptr) return absl::InternalError("Gather of a row that Check refuses");
      gather(*range, rows.subspan(i, 1), out + i * row_bytes);
    }
  }
  if (checksums == nullptr) return absl::OkStatus();
  const auto* kept = reinterpret_cast<const uint32_t*>(checksums_.data());
  for (size_t i = 0; i < rows.size(); ++i) {
    const RowRange* range = rows[i] == kNone<Id> ? nullptr : FindRange(*layer, rows[i]);
    checksums[i] = range == nullptr ? zero_checksum_
                                    : kept[first_row_[static_cast<size_t>(range - ranges_.data())] +
                                           (rows[i] - range->begin)];
  }
  return absl::OkStatus();
}

absl::Status MemoryStore::Check(uint32_t layer, std::span<const uint32_t> rows) const {
  return CheckIds(layer, rows);
}
absl::Status MemoryStore::Check(uint32_t layer, std::span<const uint64_t> rows) const {
  return CheckIds(layer, rows);
}
absl::Status MemoryStore::Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                                 uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}
absl::Status MemoryStore::Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                                 uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}

}  // namespace engram

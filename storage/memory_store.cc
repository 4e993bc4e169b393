#include "storage/memory_store.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/changed_rows.h"
#include "storage/gather.h"

namespace engram {
namespace {

// The ids' places in the store, "no row" left as it is. Each thread's list is kept from call to
// call.
template <typename Id>
std::span<const uint64_t> PlacesOf(const RangeIndex::Layer& layer, std::span<const Id> rows) {
  thread_local std::vector<uint64_t> places;
  places.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    places[i] = rows[i] == kNoRowId<Id> ? kNoRow64 : RangeIndex::PlaceOf(layer, rows[i]);
  }
  return places;
}

}  // namespace

uint32_t ZeroRowChecksum(const RowLayout& layout) {
  const std::vector<uint8_t> zeros(layout.row_bytes(), 0);
  return Crc32c(zeros.data(), zeros.size());
}

absl::StatusOr<std::unique_ptr<MemoryStore>> MemoryStore::Create(const Geometry& geometry,
                                                                 const RowLayout& layout,
                                                                 std::vector<RowRange> ranges) {
  RETURN_IF_ERROR(layout.Validate());
  ASSIGN_OR_RETURN(RangeIndex index, RangeIndex::Create(geometry, std::move(ranges)));
  ASSIGN_OR_RETURN(Arena rows, Arena::Create(index.rows() * layout.row_bytes()));
  ASSIGN_OR_RETURN(Arena checksums, Arena::Create(index.rows() * sizeof(uint32_t)));
  Memory memory{rows.data(), reinterpret_cast<uint32_t*>(checksums.data()), {}, nullptr};
  memory.arenas.push_back(std::move(rows));
  memory.arenas.push_back(std::move(checksums));
  return std::unique_ptr<MemoryStore>(new MemoryStore(layout, std::move(index), std::move(memory)));
}

absl::StatusOr<std::unique_ptr<MemoryStore>> MemoryStore::Create(const Geometry& geometry,
                                                                 const RowLayout& layout,
                                                                 std::vector<RowRange> ranges,
                                                                 std::shared_ptr<ArenaFile> file) {
  RETURN_IF_ERROR(layout.Validate());
  ASSIGN_OR_RETURN(RangeIndex index, RangeIndex::Create(geometry, std::move(ranges)));
  Memory memory{file->rows(), file->checksums(), {}, std::move(file)};
  return std::unique_ptr<MemoryStore>(new MemoryStore(layout, std::move(index), std::move(memory)));
}

MemoryStore::MemoryStore(const RowLayout& layout, RangeIndex index, Memory memory)
    : layout_(layout),
      index_(std::move(index)),
      memory_(std::move(memory)),
      zero_checksum_(ZeroRowChecksum(layout)) {}

MemoryStore::Place MemoryStore::PlaceOf(uint32_t layer, uint64_t row) const {
  const uint64_t place = RangeIndex::PlaceOf(*index_.FindLayer(layer), row);
  return {memory_.rows + place * layout_.row_bytes(), memory_.checksums + place};
}

template <typename Id>
absl::Status MemoryStore::GatherIds(uint32_t id, std::span<const Id> rows, uint8_t* out,
                                    uint32_t* checksums) const {
  const RangeIndex::Layer* layer = index_.FindLayer(id);
  if (layer == nullptr) return absl::InternalError("Gather of a layer that Check refuses");
  const size_t row_bytes = layout_.row_bytes();
  std::span<const uint64_t> places;
  if (checksums != nullptr || layer->ranges.size() != 1) places = PlacesOf(*layer, rows);
  if (layer->ranges.size() == 1) {
    // The ids themselves will do.
    const uint8_t* const table = memory_.rows + layer->first_place[0] * row_bytes;
    GatherRows(table, row_bytes, rows.data(), rows.size(), static_cast<Id>(layer->ranges[0].begin),
               out);
  } else {
    GatherRows(memory_.rows, row_bytes, places.data(), places.size(), uint64_t{0}, out);
  }
  if (checksums != nullptr) {
    for (size_t i = 0; i < places.size(); ++i) {
      checksums[i] = places[i] == kNoRow64 ? zero_checksum_ : memory_.checksums[places[i]];
    }
  }
  return CheckFile();
}

absl::Status MemoryStore::CheckFile() const {
  if (memory_.file == nullptr) return absl::OkStatus();
  const absl::Status status = memory_.file->Check();
  return status.ok() ? status : FailFile(status);
}

absl::Status MemoryStore::FailFile(const absl::Status& why) const {
  if (memory_.file != nullptr) memory_.file->MarkDamaged();
  state().Fail(why);
  return why;
}

absl::Status MemoryStore::Verify(const RowRange& range) const {
  MutexLock lock(&fold_);
  const Place place = PlaceOf(range.layer, range.begin);
  const size_t row_bytes = layout_.row_bytes();
  for (uint64_t i = 0; i < range.rows(); ++i) {
    if (Crc32c(place.rows + i * row_bytes, row_bytes) == place.checksums[i]) continue;
    ++state().checksum_failures;
    return FailFile(
        absl::DataLossError(absl::StrCat("row ", range.begin + i, " of layer ", range.layer,
                                         " differs in memory from its checksum")));
  }
  return CheckFile();
}

absl::Status MemoryStore::Fold(ManyChangedRows changed, const Sha256&,
                               absl::FunctionRef<bool()> stop) const {
  constexpr size_t kBatchRows = 512;
  if (memory_.file != nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("rows of the arena ", memory_.file->path(), " stay those of its digest"));
  }
  for (const std::shared_ptr<const ChangedRows>& each : changed) {
    for (const ChangedRows::Layer& layer : each->layers()) {
      const std::span<const uint64_t> rows = layer.index.rows();
      RETURN_IF_ERROR(Check(layer.id, rows));
      for (size_t at = 0; at < rows.size(); at += kBatchRows) {
        if (stop()) return absl::CancelledError("");
        MutexLock lock(&fold_);
        for (size_t i = at; i < std::min(at + kBatchRows, rows.size()); ++i) {
          const Place place = PlaceOf(layer.id, rows[i]);
          std::memcpy(place.rows, layer.rows + i * layout_.row_bytes(), layout_.row_bytes());
          *place.checksums = layer.checksums[i];
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status MemoryStore::Check(uint32_t layer, std::span<const uint32_t> rows) const {
  return index_.Check(layer, rows);
}
absl::Status MemoryStore::Check(uint32_t layer, std::span<const uint64_t> rows) const {
  return index_.Check(layer, rows);
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

#include "storage/mapped_store.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/gather.h"
#include "storage/row_field.h"
#include "storage/table_digest.h"

namespace engram {

absl::StatusOr<std::unique_ptr<MappedStore>> MappedStore::Open(
    std::shared_ptr<const Checkpoint> owned, std::vector<RowRange> ranges,
    std::vector<LayerSums> sums) {
  const Checkpoint& checkpoint = *owned;
  ASSIGN_OR_RETURN(RangeIndex index, RangeIndex::Create(checkpoint.geometry(), std::move(ranges)));
  std::unique_ptr<MappedStore> store(
      new MappedStore(std::move(owned), std::move(index), std::move(sums)));
  ASSIGN_OR_RETURN(store->reader_, TableReader::Open(checkpoint));
  std::map<std::string, size_t> file_index;
  for (const auto& [name, stamp] : checkpoint.files()) {
    ASSIGN_OR_RETURN(MappedFile file,
                     MappedFile::Open(absl::StrCat(checkpoint.directory(), "/", name), stamp));
    file_index[name] = store->files_.size();
    store->files_.push_back(std::move(file));
  }
  for (const LayerTensors& source : checkpoint.layers()) {
    Layer layer;
    for (const RowField& row_field : source.fields) {
      Field field{&row_field, {}};
      for (const TensorPiece& piece : row_field.pieces) {
        const size_t file = file_index.at(piece.place.file);
        field.pieces.push_back(store->files_[file].data() + piece.place.file_offset);
        layer.files.push_back(file);
      }
      layer.fields.push_back(std::move(field));
    }
    std::sort(layer.files.begin(), layer.files.end());
    layer.files.erase(std::unique(layer.files.begin(), layer.files.end()), layer.files.end());
    store->layers_.push_back(std::move(layer));
  }
  return store;
}

const uint8_t* MappedStore::Field::At(uint64_t row) const {
  const size_t piece = pieces.size() == 1 ? 0 : PieceOf(*field, row);
  return pieces[piece] + (row - field->pieces[piece].first_row) * field->file_row_bytes;
}

absl::Status MappedStore::CheckFiles(const Layer& layer) const {
  if (state().failed()) return state().failure();
  for (const size_t file : layer.files) {
    const absl::Status status = files_[file].Check();
    if (status.ok()) continue;
    state().Fail(status);
    return status;
  }
  return absl::OkStatus();
}

absl::Status MappedStore::CopyRow(const Layer& layer, uint64_t row, uint8_t* out) const {
  for (const Field& field : layer.fields) {
    const RowField& to = *field.field;
    if (to.conversion == Conversion::kCopy) {
      std::memcpy(out + to.row_offset, field.At(row), to.row_bytes);
      continue;
    }
    size_t bad = 0;
    if (ConvertF32Scales(field.At(row), to.row_bytes, out + to.row_offset, bad)) continue;
    const TensorPlace& place = to.pieces[PieceOf(to, row)].place;
    const absl::Status status = absl::DataLossError(absl::StrCat(
        checkpoint_->directory(), "/", place.file, ": tensor `", place.name, "`: scale ", bad,
        " of row ", row, " is not a power of two from 2^-127 to 2^127"));
    state().Fail(status);
    return status;
  }
  return absl::OkStatus();
}

template <typename Id>
absl::Status MappedStore::GatherIds(uint32_t id, std::span<const Id> rows, uint8_t* out,
                                    uint32_t* checksums) const {
  const RangeIndex::Layer* kept = index_.FindLayer(id);
  if (kept == nullptr) return absl::InternalError("Gather of a layer that Check refuses");
  const Layer& layer = layers_[kept->index];
  const size_t row_bytes = layout().row_bytes();
  RETURN_IF_ERROR(CheckFiles(layer));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kPrefetchRows < rows.size() && rows[i + kPrefetchRows] != kNoRowId<Id>) {
      for (const Field& field : layer.fields) {
        PrefetchRow(field.At(rows[i + kPrefetchRows]), field.field->file_row_bytes);
      }
    }
    uint8_t* const row = out + i * row_bytes;
    if (rows[i] == kNoRowId<Id>) {
      std::memset(row, 0, row_bytes);
    } else {
      RETURN_IF_ERROR(CopyRow(layer, rows[i], row));
    }
    if (checksums != nullptr) checksums[i] = Crc32c(row, row_bytes);
  }
  // What was copied is the table's only if the files are still what they were.
  return CheckFiles(layer);
}

absl::Status MappedStore::Verify(const RowRange& range) const {
  const size_t index = index_.FindLayer(range.layer)->index;
  const absl::Status status = CheckBlocks(*reader_, *checkpoint_, index, range, sums_[index]);
  if (absl::IsDataLoss(status)) {
    ++state().checksum_failures;
    state().Fail(status);
  }
  RETURN_IF_ERROR(status);
  return CheckFiles(layers_[index]);
}

absl::Status MappedStore::Check(uint32_t layer, std::span<const uint32_t> rows) const {
  return index_.Check(layer, rows);
}
absl::Status MappedStore::Check(uint32_t layer, std::span<const uint64_t> rows) const {
  return index_.Check(layer, rows);
}
absl::Status MappedStore::Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                                 uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}
absl::Status MappedStore::Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                                 uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}

}  // namespace engram

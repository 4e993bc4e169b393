// Rows straight from the checkpoint's files, through the page cache: for a machine whose memory
// does not hold the table.
#ifndef ENGRAM_STORAGE_MAPPED_STORE_H_
#define ENGRAM_STORAGE_MAPPED_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/checkpoint.h"
#include "storage/mapped_file.h"
#include "storage/row_store.h"
#include "storage/sidecar.h"
#include "storage/table_reader.h"

namespace engram {

// Every gather checks the files' sizes and times before and after it; once one has changed or
// cannot be read, this and every later gather is DataLoss. What that cannot see: bytes that change
// below the file system, or under times that somebody puts back.
class MappedStore final : public RowStore {
 public:
  // `ranges` are checked as ValidateRanges does; `sums` must be of this checkpoint, per layer.
  // DataLoss: a file has changed since its header was read. Codes as MappedFile::Open.
  static absl::StatusOr<std::unique_ptr<MappedStore>> Open(
      std::shared_ptr<const Checkpoint> checkpoint, std::vector<RowRange> ranges,
      std::vector<LayerSums> sums);

  const RowLayout& layout() const override { return checkpoint_->layout(); }
  const std::vector<RowRange>& ranges() const override { return index_.ranges(); }
  uint64_t bytes() const override { return index_.rows() * layout().row_bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override;
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override;
  // `checksums`: of the rows as gathered.
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  // Against the sums of the blocks that hold the rows.
  absl::Status Verify(const RowRange& rows) const override;

 private:
  // A field of a layer's rows, its pieces by where they are mapped.
  struct Field {
    const RowField* field;
    std::vector<const uint8_t*> pieces;
    const uint8_t* At(uint64_t row) const;
  };
  struct Layer {
    std::vector<Field> fields;
    std::vector<size_t> files;  // that hold them, indices into files_
  };

  MappedStore(std::shared_ptr<const Checkpoint> checkpoint, RangeIndex index,
              std::vector<LayerSums> sums)
      : checkpoint_(std::move(checkpoint)), index_(std::move(index)), sums_(std::move(sums)) {}

  absl::Status CheckFiles(const Layer& layer) const;
  absl::Status CopyRow(const Layer& layer, uint64_t row, uint8_t* out) const;
  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const RangeIndex index_;
  const std::vector<LayerSums> sums_;
  std::unique_ptr<TableReader> reader_;  // of Verify
  std::vector<MappedFile> files_;
  std::vector<Layer> layers_;  // as the geometry's
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_MAPPED_STORE_H_

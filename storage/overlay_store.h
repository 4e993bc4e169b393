// A table that differs from another in some rows: those rows over the other's store.
#ifndef ENGRAM_STORAGE_OVERLAY_STORE_H_
#define ENGRAM_STORAGE_OVERLAY_STORE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/changed_rows.h"
#include "storage/row_store.h"

namespace engram {

// Immutable. Never asks the base for a changed row: they may be written over there meanwhile
// (RowStore::Fold). The base may be an overlay itself.
class OverlayStore final : public RowStore {
 public:
  OverlayStore(std::shared_ptr<const RowStore> base, std::shared_ptr<const ChangedRows> changed)
      : base_(std::move(base)), changed_(std::move(changed)) {}

  // Reads a delta to its end and holds it against the base. FailedPrecondition: a row of it is not
  // held, or is not the one in the base that the delta was made from. InvalidArgument: rows of
  // another size. Else as ChangedRows::Load and the base's Gather.
  static absl::StatusOr<std::shared_ptr<const OverlayStore>> Load(
      std::shared_ptr<const RowStore> base, DeltaReader& delta);

  const std::shared_ptr<const RowStore>& base() const { return base_; }
  const std::shared_ptr<const ChangedRows>& changed() const { return changed_; }

  const RowLayout& layout() const override { return base_->layout(); }
  const std::vector<RowRange>& ranges() const override { return base_->ranges(); }
  uint64_t bytes() const override { return base_->bytes(); }
  StoreState& state() const override { return base_->state(); }
  void Visit(absl::FunctionRef<void(const Measure&)> visit) const override { base_->Visit(visit); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override {
    return base_->Check(layer, rows);
  }
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override {
    return base_->Check(layer, rows);
  }
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return GatherIds(layer, rows, out, checksums);
  }
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return GatherIds(layer, rows, out, checksums);
  }
  bool may_wait() const override { return base_->may_wait(); }
  bool StartGather(uint32_t layer, std::span<const uint32_t> rows,
                   PendingGather& gather) const override {
    return StartIds(layer, rows, gather);
  }
  bool StartGather(uint32_t layer, std::span<const uint64_t> rows,
                   PendingGather& gather) const override {
    return StartIds(layer, rows, gather);
  }
  absl::Status Verify(const RowRange& rows) const override;
  // The same of the changed rows alone; `count`: of how many.
  absl::Status VerifyChanged(const RowRange& rows, uint64_t& count) const;

 private:
  template <typename Id>
  bool StartIds(uint32_t layer, std::span<const Id> rows, PendingGather& gather) const;
  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;

  const std::shared_ptr<const RowStore> base_;
  const std::shared_ptr<const ChangedRows> changed_;
};

// The overlays that a store consists of, the lowest first; none where it is none.
std::vector<const OverlayStore*> OverlaysOf(const RowStore& store);

// The same table without its `count` lowest overlays (it has as many), whose rows are now in the
// store below.
std::shared_ptr<const RowStore> WithoutLowest(const RowStore& store, size_t count);

}  // namespace engram

#endif  // ENGRAM_STORAGE_OVERLAY_STORE_H_

#include "storage/overlay_store.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"

namespace engram {
namespace {

using Hit = ChangedIndex::Hit;

// Holds rows of a delta, of one layer, against those of the base.
absl::Status CheckBase(const RowStore& base, const DeltaReader& delta,
                       std::span<const DeltaRow> rows) {
  const uint32_t layer = delta.header().layers[rows[0].layer_index].layer;
  const size_t row_bytes = base.layout().row_bytes();
  std::vector<uint64_t> ids;
  for (const DeltaRow& row : rows) ids.push_back(row.row);
  const absl::Status held = base.Check(layer, std::span<const uint64_t>(ids));
  if (!held.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(delta.path(), ": ", held.message()));
  }
  std::vector<uint8_t> kept(rows.size() * row_bytes);
  RETURN_IF_ERROR(base.Gather(layer, std::span<const uint64_t>(ids), kept.data(), nullptr));
  for (size_t i = 0; i < rows.size(); ++i) {
    RowSum sum;
    sum.AddRow(layer, rows[i].row, kept.data() + i * row_bytes, row_bytes);
    if (sum == rows[i].before) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(delta.path(), ": row ", rows[i].row, " of layer ", layer,
                     " is not the one that the delta was made from: it is of another base"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const OverlayStore>> OverlayStore::Load(
    std::shared_ptr<const RowStore> base, DeltaReader& delta) {
  if (delta.header().row_bytes != base->layout().row_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat(delta.path(), " has rows of ",
                                                   delta.header().row_bytes, " bytes, not ",
                                                   base->layout().row_bytes()));
  }
  ASSIGN_OR_RETURN(auto changed, ChangedRows::Load(delta, [&](std::span<const DeltaRow> rows) {
                     return CheckBase(*base, delta, rows);
                   }));
  return std::make_shared<const OverlayStore>(std::move(base), std::move(changed));
}

template <typename Id>
absl::Status OverlayStore::GatherIds(uint32_t id, std::span<const Id> rows, uint8_t* out,
                                     uint32_t* checksums) const {
  const ChangedRows::Layer* const layer = changed_->FindLayer(id);
  if (layer == nullptr) return base_->Gather(id, rows, out, checksums);
  const size_t row_bytes = changed_->row_bytes();
  constexpr size_t kAtOnce = ChangedIndex::kAtOnce;
  Hit hits[kAtOnce];  // On the stack: the base may be an overlay, too.
  Id others[kAtOnce];
  for (size_t at = 0; at < rows.size(); at += kAtOnce) {
    const std::span<const Id> some = rows.subspan(at, std::min(kAtOnce, rows.size() - at));
    uint8_t* const some_out = out + at * row_bytes;
    uint32_t* const some_checksums = checksums == nullptr ? nullptr : checksums + at;
    const size_t count = layer->index.FindSome(some, hits);
    if (count == 0) {
      RETURN_IF_ERROR(base_->Gather(id, some, some_out, some_checksums));
      continue;
    }
    std::copy(some.begin(), some.end(), others);
    for (size_t i = 0; i < count; ++i) {
      others[hits[i].position] = kNoRowId<Id>;
      __builtin_prefetch(layer->rows + hits[i].index * row_bytes, 0, 2);
    }
    RETURN_IF_ERROR(
        base_->Gather(id, std::span<const Id>(others, some.size()), some_out, some_checksums));
    for (size_t i = 0; i < count; ++i) {
      const Hit& hit = hits[i];
      std::memcpy(some_out + hit.position * row_bytes, layer->rows + hit.index * row_bytes,
                  row_bytes);
      if (checksums != nullptr) some_checksums[hit.position] = layer->checksums[hit.index];
    }
  }
  return absl::OkStatus();
}

// Of a base that may wait. Its rows come when they come, some of them zeros: those that are
// changed, which are written over when all are there.
template <typename Id>
bool OverlayStore::StartIds(uint32_t id, std::span<const Id> rows, PendingGather& gather) const {
  if (!base_->may_wait()) {
    gather.status = GatherIds(id, rows, gather.out, gather.checksums);
    gather.failures.clear();
    return true;
  }
  const ChangedRows::Layer* const layer = changed_->FindLayer(id);
  if (layer == nullptr) return base_->StartGather(id, rows, gather);
  struct UnderWay {
    std::shared_ptr<const ChangedRows> changed;
    std::vector<Hit> hits;
    PendingGather rest;  // of the base
  };
  const auto under_way = std::make_shared<UnderWay>();
  std::vector<Id> others(rows.begin(), rows.end());
  for (size_t at = 0; at < rows.size(); at += ChangedIndex::kAtOnce) {
    Hit hits[ChangedIndex::kAtOnce];
    const size_t count = layer->index.FindSome(
        rows.subspan(at, std::min(ChangedIndex::kAtOnce, rows.size() - at)), hits);
    for (Hit& hit : std::span(hits, count)) {
      hit.position += static_cast<uint32_t>(at);
      others[hit.position] = kNoRowId<Id>;
      under_way->hits.push_back(hit);
    }
  }
  if (under_way->hits.empty()) return base_->StartGather(id, rows, gather);
  under_way->changed = changed_;
  under_way->rest.out = gather.out;
  under_way->rest.checksums = gather.checksums;
  under_way->rest.urgent = gather.urgent;
  const auto finish = [layer, &gather](UnderWay& whole) {
    const size_t row_bytes = whole.changed->row_bytes();
    for (const Hit& hit : whole.hits) {
      std::memcpy(gather.out + hit.position * row_bytes, layer->rows + hit.index * row_bytes,
                  row_bytes);
      if (gather.checksums != nullptr) gather.checksums[hit.position] = layer->checksums[hit.index];
    }
    gather.status = std::move(whole.rest.status);
    gather.failures = std::move(whole.rest.failures);
  };
  under_way->rest.done = [held = under_way, finish, &gather]() mutable {
    const std::shared_ptr<UnderWay> whole = std::move(held);  // It holds what holds it.
    finish(*whole);
    gather.done();
  };
  if (!base_->StartGather(id, std::span<const Id>(others), under_way->rest)) return false;
  under_way->rest.done = nullptr;
  finish(*under_way);
  return true;
}

absl::Status OverlayStore::Verify(const RowRange& range) const {
  RETURN_IF_ERROR(base_->Verify(range));
  uint64_t count = 0;
  return VerifyChanged(range, count);
}

absl::Status OverlayStore::VerifyChanged(const RowRange& range, uint64_t& count) const {
  count = 0;
  const ChangedRows::Layer* const layer = changed_->FindLayer(range.layer);
  if (layer == nullptr) return absl::OkStatus();
  const size_t row_bytes = changed_->row_bytes();
  const size_t begin = layer->index.LowerBound(range.begin);
  const size_t end = layer->index.LowerBound(range.end);
  count = end - begin;
  for (size_t i = begin; i < end; ++i) {
    if (Crc32c(layer->rows + i * row_bytes, row_bytes) == layer->checksums[i]) continue;
    ++state().checksum_failures;
    return absl::DataLossError(absl::StrCat("changed row ", layer->index.rows()[i], " of layer ",
                                            range.layer, " differs in memory from its checksum"));
  }
  return absl::OkStatus();
}

std::vector<const OverlayStore*> OverlaysOf(const RowStore& store) {
  std::vector<const OverlayStore*> overlays;
  const auto* overlay = dynamic_cast<const OverlayStore*>(&store);
  for (; overlay != nullptr; overlay = dynamic_cast<const OverlayStore*>(overlay->base().get())) {
    overlays.push_back(overlay);
  }
  std::reverse(overlays.begin(), overlays.end());
  return overlays;
}

std::shared_ptr<const RowStore> WithoutLowest(const RowStore& store, size_t count) {
  const std::vector<const OverlayStore*> overlays = OverlaysOf(store);
  std::shared_ptr<const RowStore> rebuilt = overlays[0]->base();
  for (size_t i = count; i < overlays.size(); ++i) {
    rebuilt = std::make_shared<const OverlayStore>(std::move(rebuilt), overlays[i]->changed());
  }
  return rebuilt;
}

}  // namespace engram

// A row store without rows: their bytes are a function of (layer, row). It can be made to block, to
// fail or to wait as for a disk, and tells how far its callers have come.
#ifndef ENGRAM_TESTS_SUPPORT_FAKE_ROW_STORE_H_
#define ENGRAM_TESTS_SUPPORT_FAKE_ROW_STORE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"
#include "proto/crc32c.h"
#include "proto/geometry.h"
#include "storage/row_store.h"

namespace engram {

// Thread-safe. A test drives it through a pointer that it keeps while the server owns the store.
class FakeRowStore final : public RowStore {
 public:
  FakeRowStore(const Geometry& geometry, const RowLayout& layout, std::vector<RowRange> ranges)
      : geometry_(geometry), layout_(layout), ranges_(std::move(ranges)) {}

  // The bytes that every gather gives for `row`; zeros for "no row".
  static std::string RowBytes(uint32_t layer, uint64_t row, size_t row_bytes) {
    std::string bytes(row_bytes, '\0');
    if (row == kNoRow64) return bytes;
    uint64_t state = (row + 1) * 0x9E3779B97F4A7C15u + layer;
    for (char& byte : bytes) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = static_cast<char>(state >> 56);
    }
    return bytes;
  }

  // From now on gathers wait for Open.
  void Close() {
    MutexLock lock(&mutex_);
    open_ = false;
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  // What gathers return from now on.
  void FailWith(absl::Status status) {
    MutexLock lock(&mutex_);
    failure_ = std::move(status);
  }

  // Before it is served: gathers of a row from `row` on are held until Release.
  void WaitFrom(uint64_t row) { wait_from_ = row; }
  // Such gathers cannot have this row.
  void Lose(uint64_t row) {
    MutexLock lock(&mutex_);
    lost_.push_back(row);
  }
  // Waits up to 20 seconds until gathers are held.
  bool WaitForHeld(size_t count) {
    return WaitFor([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return held_.size() >= count; });
  }
  // Does those that are held now.
  void Release() {
    std::vector<std::function<void()>> held;
    {
      MutexLock lock(&mutex_);
      held.swap(held_);
    }
    for (const auto& gather : held) gather();
  }

  // Requests that have been looked at so far.
  uint64_t checks() const {
    MutexLock lock(&mutex_);
    return checks_;
  }

  // Each waits up to 20 seconds; false if it did not come so far.
  bool WaitForChecks(uint64_t count) {
    return WaitFor([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return checks_ >= count; });
  }
  bool WaitUntilBlocked() {
    return WaitFor([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return blocked_ > 0; });
  }

  const RowLayout& layout() const override { return layout_; }
  const std::vector<RowRange>& ranges() const override { return ranges_; }
  uint64_t bytes() const override { return TotalRows(ranges_) * layout_.row_bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override {
    return CheckIds(layer, rows);
  }
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override {
    return CheckIds(layer, rows);
  }
  absl::Status Verify(const RowRange&) const override { return absl::OkStatus(); }
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return GatherIds(layer, rows, out, checksums);
  }
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return GatherIds(layer, rows, out, checksums);
  }
  bool may_wait() const override { return wait_from_ != kNoRow64; }
  bool StartGather(uint32_t layer, std::span<const uint32_t> rows,
                   PendingGather& gather) const override {
    return StartIds(layer, rows, gather);
  }
  bool StartGather(uint32_t layer, std::span<const uint64_t> rows,
                   PendingGather& gather) const override {
    return StartIds(layer, rows, gather);
  }

 private:
  static uint64_t Widen(uint32_t row) { return row == kNoRow32 ? kNoRow64 : row; }
  static uint64_t Widen(uint64_t row) { return row; }

  template <typename Condition>
  bool WaitFor(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    MutexLock lock(&mutex_);
    while (!condition()) {
      if (!changed_.WaitUntil(&mutex_, deadline)) return condition();
    }
    return true;
  }

  template <typename Id>
  absl::Status CheckIds(uint32_t layer, std::span<const Id> rows) const {
    {
      MutexLock lock(&mutex_);
      ++checks_;
      changed_.NotifyAll();
    }
    const absl::StatusOr<size_t> index = geometry_.LayerIndex(layer);
    if (!index.ok()) return index.status();
    for (size_t i = 0; i < rows.size(); ++i) {
      const uint64_t row = Widen(rows[i]);
      if (row == kNoRow64) continue;
      const std::string where = absl::StrCat("position ", i, ": row ", row, " of layer ", layer);
      if (row >= geometry_.layers()[*index].rows) return absl::OutOfRangeError(where);
      const bool held = std::any_of(ranges_.begin(), ranges_.end(), [&](const RowRange& range) {
        return range.layer == layer && row >= range.begin && row < range.end;
      });
      if (!held) return absl::FailedPreconditionError(where);
    }
    return absl::OkStatus();
  }

  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const {
    {
      MutexLock lock(&mutex_);
      ++blocked_;
      changed_.NotifyAll();
      while (!open_) changed_.Wait(&mutex_);
      --blocked_;
      if (!failure_.ok()) return failure_;
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string bytes = RowBytes(layer, Widen(rows[i]), layout_.row_bytes());
      std::copy(bytes.begin(), bytes.end(), out + i * bytes.size());
      if (checksums != nullptr) checksums[i] = Crc32c(bytes.data(), bytes.size());
    }
    return absl::OkStatus();
  }

  template <typename Id>
  bool StartIds(uint32_t layer, std::span<const Id> rows, PendingGather& gather) const {
    gather.failures.clear();
    const bool waits = std::any_of(rows.begin(), rows.end(), [&](Id row) {
      return Widen(row) != kNoRow64 && Widen(row) >= wait_from_;
    });
    if (!waits) {
      gather.status = GatherIds(layer, rows, gather.out, gather.checksums);
      return true;
    }
    MutexLock lock(&mutex_);
    held_.push_back([this, layer, &gather, rows = std::vector<Id>(rows.begin(), rows.end())] {
      gather.status = GatherIds(layer, std::span<const Id>(rows), gather.out, gather.checksums);
      for (size_t i = 0; i < rows.size(); ++i) {
        MutexLock lost_lock(&mutex_);
        if (std::find(lost_.begin(), lost_.end(), Widen(rows[i])) == lost_.end()) continue;
        std::fill_n(gather.out + i * layout_.row_bytes(), layout_.row_bytes(), uint8_t{0});
        gather.failures.push_back({static_cast<uint32_t>(i), absl::StatusCode::kDataLoss});
      }
      gather.done();
    });
    changed_.NotifyAll();
    return false;
  }

  const Geometry geometry_;
  const RowLayout layout_;
  const std::vector<RowRange> ranges_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  uint64_t wait_from_ = kNoRow64;
  std::vector<uint64_t> lost_ ABSL_GUARDED_BY(mutex_);
  mutable std::vector<std::function<void()>> held_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t checks_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable uint64_t blocked_ ABSL_GUARDED_BY(mutex_) = 0;  // gathers that are at the gate
};

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_FAKE_ROW_STORE_H_

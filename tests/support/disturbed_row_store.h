// A real row store that a test makes slow, failing or wrong while a server serves from it.
#ifndef ENGRAM_TESTS_SUPPORT_DISTURBED_ROW_STORE_H_
#define ENGRAM_TESTS_SUPPORT_DISTURBED_ROW_STORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/retry_after.h"
#include "storage/row_store.h"

namespace engram {

// What is wrong with a store; any thread, at any time.
inline constexpr absl::Duration kFailureRetryAfter = absl::Milliseconds(7);

struct Disturbance {
  std::atomic<int64_t> delay_us{0};  // of every gather
  std::atomic<absl::StatusCode> failure{absl::StatusCode::kOk};
  std::atomic<bool> flips_a_bit{false};  // of the first row of every gather
  std::atomic<uint64_t> gathers{0};
};

class DisturbedRowStore final : public RowStore {
 public:
  DisturbedRowStore(std::unique_ptr<const RowStore> store, std::shared_ptr<Disturbance> disturbance)
      : store_(std::move(store)), disturbance_(std::move(disturbance)) {}

  const RowLayout& layout() const override { return store_->layout(); }
  const std::vector<RowRange>& ranges() const override { return store_->ranges(); }
  uint64_t bytes() const override { return store_->bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override {
    return store_->Check(layer, rows);
  }
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override {
    return store_->Check(layer, rows);
  }
  absl::Status Verify(const RowRange& rows) const override { return store_->Verify(rows); }
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return Disturb(layer, rows, out, checksums);
  }
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override {
    return Disturb(layer, rows, out, checksums);
  }

 private:
  template <typename Id>
  absl::Status Disturb(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                       uint32_t* checksums) const {
    ++disturbance_->gathers;
    absl::SleepFor(absl::Microseconds(disturbance_->delay_us.load()));
    const absl::StatusCode failure = disturbance_->failure;
    if (failure != absl::StatusCode::kOk) {
      return WithRetryAfter(absl::Status(failure, "made to fail"), kFailureRetryAfter);
    }
    const absl::Status status = store_->Gather(layer, rows, out, checksums);
    if (disturbance_->flips_a_bit && !rows.empty()) out[5] ^= 1;
    return status;
  }

  const std::unique_ptr<const RowStore> store_;
  const std::shared_ptr<Disturbance> disturbance_;
};

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_DISTURBED_ROW_STORE_H_

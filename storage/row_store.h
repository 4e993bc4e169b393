// A shard's rows, ready to be gathered.
#ifndef ENGRAM_STORAGE_ROW_STORE_H_
#define ENGRAM_STORAGE_ROW_STORE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "proto/range_map.h"
#include "proto/row_layout.h"
#include "storage/range_index.h"
#include "storage/store_state.h"

namespace engram {

// Implementations are safe for any number of threads at once.
class RowStore {
 public:
  virtual ~RowStore() = default;

  virtual const RowLayout& layout() const = 0;
  virtual const std::vector<RowRange>& ranges() const = 0;  // sorted by (layer, begin)
  virtual uint64_t bytes() const = 0;                       // of the rows, checksums apart

  // One pass over a request's ids before anything is gathered: OK when each is "no row" or held.
  // NotFound: no such layer in the table. OutOfRange: beyond the layer's rows. FailedPrecondition:
  // a row of the table that this shard does not hold (the caller's range map is stale). Messages
  // name the first offending position and id.
  virtual absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const = 0;
  virtual absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const = 0;

  // Copies the rows to `out` [rows.size(), row_bytes]. Every id must have passed Check.
  // `checksums` [rows.size()] gets each row's CRC32C; null for none.
  // DataLoss where a row can no longer be read or may be another; `out` is then unspecified, and
  // state() has failed.
  virtual absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                              uint32_t* checksums) const = 0;
  virtual absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                              uint32_t* checksums) const = 0;

  // Holds rows that the store keeps (all of one range) against what is known of them apart from
  // their bytes. DataLoss naming them where they differ.
  virtual absl::Status Verify(const RowRange& rows) const = 0;

  StoreState& state() const { return state_; }

 private:
  mutable StoreState state_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_ROW_STORE_H_

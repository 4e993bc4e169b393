// A shard's rows, ready to be gathered.
#ifndef ENGRAM_STORAGE_ROW_STORE_H_
#define ENGRAM_STORAGE_ROW_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "proto/range_map.h"
#include "proto/row_layout.h"
#include "proto/sha256.h"
#include "storage/range_index.h"
#include "storage/store_state.h"

namespace engram {

class ChangedRows;

// A row that could not be had: its position among those that were asked for, and why.
struct RowFailure {
  uint32_t position = 0;
  absl::StatusCode code = absl::StatusCode::kOk;  // kDataLoss or kUnavailable
};

// A gather that need not be done when the call that starts it returns.
struct PendingGather {
  // Set by who asks; `out` and `checksums` as of RowStore::Gather.
  uint8_t* out = nullptr;
  uint32_t* checksums = nullptr;
  bool urgent = true;          // before those that are not
  std::function<void()> done;  // called at most once, by a thread of the store

  // Set when it is done. Rows that failed, by position, are zeros; all others are valid. Where
  // `status` is not OK, none is.
  absl::Status status;
  std::vector<RowFailure> failures;
};

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
  // DataLoss where a row can no longer be read or may be another; `out` is then unspecified. A
  // store that cannot say of which rows that is true has failed for good (state()).
  virtual absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                              uint32_t* checksums) const = 0;
  virtual absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                              uint32_t* checksums) const = 0;

  // Whether a gather may have to wait for a disk. Threads that must not wait call StartGather.
  virtual bool may_wait() const { return false; }

  // The same without waiting; `rows` are used before it returns. True: it is done. False: `gather`,
  // and what it points to, is the store's until it calls gather.done.
  virtual bool StartGather(uint32_t layer, std::span<const uint32_t> rows,
                           PendingGather& gather) const {
    gather.status = Gather(layer, rows, gather.out, gather.checksums);
    return true;
  }
  virtual bool StartGather(uint32_t layer, std::span<const uint64_t> rows,
                           PendingGather& gather) const {
    gather.status = Gather(layer, rows, gather.out, gather.checksums);
    return true;
  }

  // Holds rows that the store keeps (all of one range) against what is known of them apart from
  // their bytes. DataLoss naming them where they differ.
  virtual absl::Status Verify(const RowRange& rows) const = 0;

  // Writes changed rows (held ones) over those that are kept, for good: of a row that several
  // change, the last one's. They make the table that of `target`. Nobody may gather these rows
  // from the call on until it has returned OK; others, and Verify, may go on. After an error it may
  // be called again, with more behind them. One call at a time.
  // Unimplemented: the store's rows are not its own. Cancelled: `stop`, asked now and then, said
  // so.
  using ManyChangedRows = std::span<const std::shared_ptr<const ChangedRows>>;
  virtual absl::Status Fold(ManyChangedRows /*changed*/, const Sha256& /*target*/,
                            absl::FunctionRef<bool()> /*stop*/) const {
    return absl::UnimplementedError("rows of this store cannot be replaced");
  }
  // Whether what was folded is there when the table is opened again, and has the target's digest
  // then. It may be there, too, where Fold has failed.
  virtual bool keeps_folds() const { return false; }

  // What a store counts of its own kind, for metrics. Any thread.
  struct Measure {
    const char* name;  // of the metric, behind "engram_"
    const char* help;
    bool counter;  // else a gauge
    uint64_t value;
  };
  virtual void Visit(absl::FunctionRef<void(const Measure&)>) const {}

  virtual StoreState& state() const { return state_; }

 private:
  mutable StoreState state_;
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_ROW_STORE_H_

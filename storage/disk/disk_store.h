// Rows in a database on disk, behind a cache of those that are asked for often.
#ifndef ENGRAM_STORAGE_DISK_DISK_STORE_H_
#define ENGRAM_STORAGE_DISK_DISK_STORE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/mutex.h"
#include "storage/disk/data_dir.h"
#include "storage/disk/disk_database.h"
#include "storage/disk/disk_row_cache.h"
#include "storage/disk/read_pool.h"
#include "storage/disk/row_groups.h"
#include "storage/row_store.h"

namespace engram {

struct DiskStoreOptions {
  uint64_t cache_bytes = 0;  // of the cache of rows
  uint32_t read_threads = 16;
  bool direct_reads = false;                   // of a database that is opened anew
  std::function<void(absl::string_view)> log;  // from any thread; may be null
};

// Since the store was opened.
struct DiskCounts {
  uint64_t rows_asked = 0;   // "no row" included
  uint64_t rows_missed = 0;  // that the cache had not
  uint64_t blocks_read = 0;  // of kDiskBlockBytes, for rows that were asked for
  uint64_t rows_lost = 0;    // answers of rows that could not be read
};

// A row that cannot be read, or differs from its checksum, fails alone: every other is served on.
// What the cache has is served without the disk.
class DiskStore final : public RowStore {
 public:
  // Takes the directory and its database. Rows that were hot when it was last closed are read in
  // the background.
  static absl::StatusOr<std::unique_ptr<DiskStore>> Open(DataDir data_dir, DiskDatabase database,
                                                         DiskStoreOptions options);
  // Keeps the list of hot rows. No gather may be under way.
  ~DiskStore() override;

  const RowLayout& layout() const override { return layout_; }
  const std::vector<RowRange>& ranges() const override { return index_.ranges(); }
  uint64_t bytes() const override { return index_.rows() * layout().row_bytes(); }
  absl::Status Check(uint32_t layer, std::span<const uint32_t> rows) const override;
  absl::Status Check(uint32_t layer, std::span<const uint64_t> rows) const override;
  // Waits for the disk. The first failed row fails it, with that row's code; state() has not
  // failed.
  absl::Status Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  absl::Status Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                      uint32_t* checksums) const override;
  bool may_wait() const override { return true; }
  bool StartGather(uint32_t layer, std::span<const uint32_t> rows,
                   PendingGather& gather) const override;
  bool StartGather(uint32_t layer, std::span<const uint64_t> rows,
                   PendingGather& gather) const override;
  // Reads rows of one block. Those that cannot be read are named in the log and counted; OK all the
  // same, since the others are served.
  absl::Status Verify(const RowRange& rows) const override;
  // As FoldIntoDatabase. What the cache has of these rows is forgotten.
  absl::Status Fold(ManyChangedRows changed, const Sha256& target,
                    absl::FunctionRef<bool()> stop) const override;
  bool keeps_folds() const override { return true; }

  void Visit(absl::FunctionRef<void(const Measure&)> visit) const override;

  DiskCounts counts() const;
  uint64_t cache_rows() const { return cache_->rows(); }
  // Waits until the hot rows of the last time have been read.
  void AwaitWarm() const;

 private:
  struct Want;
  struct Reading;

  DiskStore(DataDir data_dir, DiskDatabase database, RangeIndex index,
            std::unique_ptr<DiskRowCache> cache, DiskStoreOptions options);

  template <typename Id>
  absl::Status GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                         uint32_t* checksums) const;
  template <typename Id>
  bool StartIds(uint32_t layer, std::span<const Id> rows, PendingGather& gather) const;
  void Read(Reading& reading, size_t begin, size_t end) const;
  // Reads the groups of rows of one layer, which ascend. Called with each row's index, and its
  // group's value or why the row could not be had. Returns how many groups there were.
  using VisitRow = absl::FunctionRef<void(size_t i, const absl::StatusOr<absl::string_view>&)>;
  size_t ReadRows(uint32_t layer, std::span<const uint64_t> rows, VisitRow visit) const;
  void ReportLost(uint32_t layer, uint64_t row, const absl::Status& why) const;
  std::shared_ptr<const DiskDatabase> database() const;  // to be kept while it is read
  // What is read from here on is what the directory has. The cache forgets changed rows.
  absl::Status Reopen(ManyChangedRows changed) const;
  void Warm(std::vector<HotRow> hot);
  void Log(const std::string& line) const;

  const DataDir data_dir_;
  const RowLayout layout_;
  const RangeIndex index_;
  const RowGroups groups_;
  const uint32_t zero_checksum_;
  const std::unique_ptr<DiskRowCache> cache_;
  const DiskStoreOptions options_;
  mutable std::atomic<uint64_t> rows_asked_{0}, rows_missed_{0}, blocks_read_{0}, rows_lost_{0};
  std::atomic<bool> closing_{false};
  // Held while the cache is filled with rows that nobody has asked for, and while a fold makes it
  // forget some: none that was read before is put there afterwards.
  mutable Mutex warm_;
  mutable Mutex mutex_;
  mutable std::shared_ptr<const DiskDatabase> database_ ABSL_GUARDED_BY(mutex_);
  // By those before it.
  mutable uint64_t former_read_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable ReadPool pool_;
  mutable std::thread warming_;  // last: it uses all of the above
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_DISK_DISK_STORE_H_

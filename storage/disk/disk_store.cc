#include "storage/disk/disk_store.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "proto/crc32c.h"
#include "storage/changed_rows.h"
#include "storage/disk/disk_fold.h"
#include "storage/disk/hot_rows.h"
#include "storage/disk/part_check.h"
#include "storage/memory_store.h"

namespace engram {
namespace {

// Rows that one thread reads before it looks for other work.
constexpr size_t kRowsAtOnce = 32;
constexpr size_t kWarmRowsAtOnce = 4096;
constexpr uint64_t kLostNamed = 16;  // rows; behind them every power of two

}  // namespace

// One row that the cache had not.
struct DiskStore::Want {
  uint64_t row;
  uint64_t place;
  uint32_t position;
};

// The part of a gather that goes to the disk.
struct DiskStore::Reading {
  uint32_t layer = 0;
  PendingGather* gather = nullptr;
  std::vector<Want> wants;  // by row
  std::atomic<size_t> left{0};
  Mutex mutex;  // of gather->failures
};

absl::StatusOr<std::unique_ptr<DiskStore>> DiskStore::Open(DataDir data_dir, DiskDatabase database,
                                                           DiskStoreOptions options) {
  const ShardManifest& manifest = database.manifest;
  ASSIGN_OR_RETURN(RangeIndex index, RangeIndex::Create(manifest.geometry, manifest.ranges));
  ASSIGN_OR_RETURN(auto cache,
                   DiskRowCache::Create(manifest.layout.row_bytes(), options.cache_bytes));
  absl::StatusOr<std::vector<HotRow>> hot =
      ReadHotRows(data_dir.hot_rows(), manifest.digest, index.rows());
  std::unique_ptr<DiskStore> store(new DiskStore(std::move(data_dir), std::move(database),
                                                 std::move(index), std::move(cache),
                                                 std::move(options)));
  if (hot.ok()) {
    store->warming_ = std::thread(
        [store = store.get(), hot = *std::move(hot)]() mutable { store->Warm(std::move(hot)); });
  } else if (!absl::IsNotFound(hot.status())) {
    store->Log(absl::StrCat("the cache starts empty: ", hot.status().message()));
  }
  return store;
}

DiskStore::DiskStore(DataDir data_dir, DiskDatabase database, RangeIndex index,
                     std::unique_ptr<DiskRowCache> cache, DiskStoreOptions options)
    : data_dir_(std::move(data_dir)),
      layout_(database.manifest.layout),
      index_(std::move(index)),
      groups_(layout_),
      zero_checksum_(ZeroRowChecksum(layout_)),
      cache_(std::move(cache)),
      options_(std::move(options)),
      database_(std::make_shared<const DiskDatabase>(std::move(database))),
      pool_(std::max(1u, options_.read_threads)) {}

DiskStore::~DiskStore() {
  closing_ = true;
  AwaitWarm();
  const absl::Status kept =
      WriteHotRows(data_dir_.hot_rows(), database()->manifest.digest, cache_->HotRows());
  if (!kept.ok()) Log(absl::StrCat("the list of hot rows is not kept: ", kept.message()));
}

void DiskStore::AwaitWarm() const {
  if (warming_.joinable()) warming_.join();
}

std::shared_ptr<const DiskDatabase> DiskStore::database() const {
  MutexLock lock(&mutex_);
  return database_;
}

void DiskStore::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

DiskCounts DiskStore::counts() const {
  // What is asked is counted first: never fewer than were missed.
  const uint64_t missed = rows_missed_;
  return {rows_asked_, missed, blocks_read_, rows_lost_};
}

void DiskStore::Visit(absl::FunctionRef<void(const Measure&)> visit) const {
  const DiskCounts now = counts();
  std::shared_ptr<const DiskDatabase> database;
  uint64_t former_read_bytes = 0;
  {
    MutexLock lock(&mutex_);
    database = database_;
    former_read_bytes = former_read_bytes_;
  }
  visit({"rocksdb_cache_hits_total", "Rows from the cache of rows.", true,
         now.rows_asked - now.rows_missed});
  visit({"rocksdb_cache_misses_total", "Rows that the cache had not.", true, now.rows_missed});
  visit({"rocksdb_blocks_read_total", "Blocks read for rows that were asked for.", true,
         now.blocks_read});
  visit(
      {"rocksdb_lost_rows_total", "Answers of rows that could not be read.", true, now.rows_lost});
  visit({"rocksdb_cache_rows", "Rows that the cache has room for.", false, cache_rows()});
  visit({"rocksdb_index_bytes", "Memory that the files' indexes take.", false,
         database->rows->index_bytes()});
  visit({"rocksdb_file_bytes", "Bytes of the database's files.", false,
         database->rows->file_bytes()});
  visit({"rocksdb_read_bytes_total", "Bytes of values read, as RocksDB counts them.", true,
         former_read_bytes + database->rows->read_bytes()});
}

// ---------------------------------------------------------------- gather

template <typename Id>
bool DiskStore::StartIds(uint32_t id, std::span<const Id> rows, PendingGather& gather) const {
  gather.status = absl::OkStatus();
  gather.failures.clear();
  const RangeIndex::Layer* const layer = index_.FindLayer(id);
  if (layer == nullptr) {
    gather.status = absl::InternalError("Gather of a layer that Check refuses");
    return true;
  }
  static_assert(DiskRowCache::kNoPlace == kNoRow64);
  thread_local std::vector<uint64_t> places;
  thread_local std::vector<uint32_t> misses;
  places.resize(rows.size());
  misses.clear();
  bool no_row = false;
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool none = rows[i] == kNoRowId<Id>;
    places[i] = none ? kNoRow64 : RangeIndex::PlaceOf(*layer, rows[i]);
    no_row |= none;
  }
  cache_->Get(places, gather.out, gather.checksums, misses);
  if (no_row && gather.checksums != nullptr) {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (places[i] == kNoRow64) gather.checksums[i] = zero_checksum_;
    }
  }
  rows_asked_.fetch_add(rows.size(), std::memory_order_relaxed);
  if (misses.empty()) return true;
  rows_missed_.fetch_add(misses.size(), std::memory_order_relaxed);

  const auto reading = std::make_shared<Reading>();
  reading->layer = id;
  reading->gather = &gather;
  reading->wants.reserve(misses.size());
  for (const uint32_t i : misses) reading->wants.push_back({rows[i], places[i], i});
  std::sort(reading->wants.begin(), reading->wants.end(),
            [](const Want& a, const Want& b) { return a.row < b.row; });
  const size_t count = reading->wants.size();
  const size_t step =
      std::clamp<size_t>((count + pool_.threads() - 1) / pool_.threads(), 1, kRowsAtOnce);
  std::vector<ReadPool::Work> work;
  for (size_t begin = 0; begin < count;) {
    size_t end = std::min(begin + step, count);
    // A group is read once.
    while (end < count && groups_.GroupOf(reading->wants[end].row) ==
                              groups_.GroupOf(reading->wants[end - 1].row)) {
      ++end;
    }
    work.push_back([this, reading, begin, end] { Read(*reading, begin, end); });
    begin = end;
  }
  reading->left = work.size();
  const bool urgent = gather.urgent;  // It may be gone once work has been added.
  pool_.Add(std::move(work), urgent);
  return false;
}

void DiskStore::Read(Reading& reading, size_t begin, size_t end) const {
  PendingGather& gather = *reading.gather;
  const std::span<const Want> wants = std::span(reading.wants).subspan(begin, end - begin);
  const size_t row_bytes = groups_.row_bytes();
  std::vector<uint64_t> rows;
  for (const Want& want : wants) rows.push_back(want.row);
  const auto take = [&](size_t i, const absl::StatusOr<absl::string_view>& value) {
    const Want& want = wants[i];
    uint8_t* const out = gather.out + want.position * row_bytes;
    if (value.ok()) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(value->data());
      const uint32_t checksum = groups_.Checksum(*value, want.row);
      std::memcpy(out, bytes + groups_.RowAt(want.row), row_bytes);
      if (gather.checksums != nullptr) gather.checksums[want.position] = checksum;
      cache_->Offer(want.place, out, checksum);
      return;
    }
    std::memset(out, 0, row_bytes);
    if (gather.checksums != nullptr) gather.checksums[want.position] = zero_checksum_;
    ReportLost(reading.layer, want.row, value.status());
    const bool lost = absl::IsDataLoss(value.status());
    MutexLock lock(&reading.mutex);
    gather.failures.push_back(
        {want.position, lost ? absl::StatusCode::kDataLoss : absl::StatusCode::kUnavailable});
  };
  blocks_read_.fetch_add(ReadRows(reading.layer, rows, take), std::memory_order_relaxed);
  if (reading.left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::sort(gather.failures.begin(), gather.failures.end(),
            [](const RowFailure& a, const RowFailure& b) { return a.position < b.position; });
  gather.done();
}

size_t DiskStore::ReadRows(uint32_t layer, std::span<const uint64_t> rows, VisitRow visit) const {
  std::vector<GroupKey> keys;
  std::vector<absl::string_view> views;
  std::vector<size_t> begins;  // of each group, into rows
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i > 0 && groups_.GroupOf(rows[i]) == groups_.GroupOf(rows[i - 1])) continue;
    keys.emplace_back(layer, groups_.GroupOf(rows[i]));
    begins.push_back(i);
  }
  begins.push_back(rows.size());
  for (const GroupKey& key : keys) views.push_back(key.view());
  database()->rows->Read(views, [&](size_t group, const absl::StatusOr<absl::string_view>& value) {
    for (size_t i = begins[group]; i < begins[group + 1]; ++i) {
      if (!value.ok()) {
        visit(i, value);
      } else if (value->size() != groups_.value_bytes()) {
        visit(i, absl::DataLossError("its group has another size"));
      } else if (Crc32c(value->data() + groups_.RowAt(rows[i]), groups_.row_bytes()) !=
                 groups_.Checksum(*value, rows[i])) {
        visit(i, absl::DataLossError("it differs from its checksum"));
      } else {
        visit(i, value);
      }
    }
  });
  return keys.size();
}

void DiskStore::ReportLost(uint32_t layer, uint64_t row, const absl::Status& why) const {
  if (absl::IsDataLoss(why)) ++state().checksum_failures;
  const uint64_t count = ++rows_lost_;
  if (count > kLostNamed && (count & (count - 1)) != 0) return;
  Log(absl::StrCat("row ", row, " of layer ", layer, " could not be read (", count,
                   " times this or another): ", why.message()));
}

template <typename Id>
absl::Status DiskStore::GatherIds(uint32_t layer, std::span<const Id> rows, uint8_t* out,
                                  uint32_t* checksums) const {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  PendingGather gather;
  gather.out = out;
  gather.checksums = checksums;
  gather.done = [&] {
    MutexLock lock(&mutex);
    done = true;
    changed.NotifyOne();
  };
  if (!StartIds(layer, rows, gather)) {
    MutexLock lock(&mutex);
    while (!done) changed.Wait(&mutex);
  }
  RETURN_IF_ERROR(gather.status);
  if (gather.failures.empty()) return absl::OkStatus();
  const RowFailure& first = gather.failures.front();
  return absl::Status(first.code,
                      absl::StrCat("row ", rows[first.position], " of layer ", layer,
                                   " could not be read, nor could ", gather.failures.size() - 1,
                                   " others that were asked for with it"));
}

// ---------------------------------------------------------------- beside it

void DiskStore::Warm(std::vector<HotRow> hot) {
  pthread_setname_np(pthread_self(), "engram-warm");
  uint64_t read = 0;
  size_t begin = 0;
  std::vector<uint64_t> rows;
  for (const RowRange& range : index_.ranges()) {
    const RangeIndex::Layer& layer = *index_.FindLayer(range.layer);
    const uint64_t first = RangeIndex::PlaceOf(layer, range.begin);
    while (begin < hot.size() && hot[begin].place < first + range.rows() && !closing_) {
      size_t end = begin;
      rows.clear();
      while (end < hot.size() && hot[end].place < first + range.rows() &&
             rows.size() < kWarmRowsAtOnce) {
        rows.push_back(range.begin + (hot[end++].place - first));
      }
      MutexLock lock(&warm_);
      ReadRows(range.layer, rows, [&](size_t i, const absl::StatusOr<absl::string_view>& value) {
        if (!value.ok()) return;  // Who asks for it will hear.
        const auto* bytes = reinterpret_cast<const uint8_t*>(value->data());
        cache_->Put(hot[begin + i], bytes + groups_.RowAt(rows[i]),
                    groups_.Checksum(*value, rows[i]));
        ++read;
      });
      begin = end;
    }
  }
  Log(absl::StrCat("the cache has ", read, " rows that were hot before"));
}

absl::Status DiskStore::Verify(const RowRange& range) const {
  PartCheck check(groups_, range);
  const GroupKey begin(range.layer, groups_.GroupOf(range.begin));
  const GroupKey end(range.layer, groups_.GroupOf(range.end - 1) + 1);
  const absl::Status scanned = database()->rows->Scan(
      begin.view(), end.view(), [&](absl::string_view key, absl::string_view value) {
        if (check.done()) return absl::DataLossError("more rows than there were");
        return check.Take(key, value, [](uint64_t, const uint8_t*, uint32_t) {});
      });
  if (scanned.ok() && check.done()) return absl::OkStatus();
  // Which of them?
  std::vector<uint64_t> rows;
  for (uint64_t row = range.begin; row < range.end; ++row) rows.push_back(row);
  ReadRows(range.layer, rows, [&](size_t i, const absl::StatusOr<absl::string_view>& value) {
    if (!value.ok()) ReportLost(range.layer, rows[i], value.status());
  });
  return absl::OkStatus();
}

absl::Status DiskStore::Fold(ManyChangedRows changed, const Sha256& target,
                             absl::FunctionRef<bool()> stop) const {
  ASSIGN_OR_RETURN(const bool merged, MergeFolds(data_dir_, *database(), stop));
  if (merged) RETURN_IF_ERROR(Reopen({}));
  RETURN_IF_ERROR(FoldIntoDatabase(data_dir_, *database(), changed, target, stop));
  return Reopen(changed);
}

absl::Status DiskStore::Reopen(ManyChangedRows changed) const {
  ASSIGN_OR_RETURN(DiskDatabase opened,
                   OpenDiskDatabase(data_dir_.database(), options_.direct_reads));
  auto database = std::make_shared<const DiskDatabase>(std::move(opened));
  MutexLock warm_lock(&warm_);
  {
    MutexLock lock(&mutex_);
    former_read_bytes_ += database_->rows->read_bytes();
    std::swap(database_, database);
  }
  // Nobody gathers these rows, so none of them comes back but from the new database.
  for (const std::shared_ptr<const ChangedRows>& each : changed) {
    for (const ChangedRows::Layer& layer : each->layers()) {
      const RangeIndex::Layer& its = *index_.FindLayer(layer.id);
      for (const uint64_t row : layer.index.rows()) cache_->Forget(RangeIndex::PlaceOf(its, row));
    }
  }
  return absl::OkStatus();
}

absl::Status DiskStore::Check(uint32_t layer, std::span<const uint32_t> rows) const {
  return index_.Check(layer, rows);
}
absl::Status DiskStore::Check(uint32_t layer, std::span<const uint64_t> rows) const {
  return index_.Check(layer, rows);
}
absl::Status DiskStore::Gather(uint32_t layer, std::span<const uint32_t> rows, uint8_t* out,
                               uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}
absl::Status DiskStore::Gather(uint32_t layer, std::span<const uint64_t> rows, uint8_t* out,
                               uint32_t* checksums) const {
  return GatherIds(layer, rows, out, checksums);
}
bool DiskStore::StartGather(uint32_t layer, std::span<const uint32_t> rows,
                            PendingGather& gather) const {
  return StartIds(layer, rows, gather);
}
bool DiskStore::StartGather(uint32_t layer, std::span<const uint64_t> rows,
                            PendingGather& gather) const {
  return StartIds(layer, rows, gather);
}

}  // namespace engram

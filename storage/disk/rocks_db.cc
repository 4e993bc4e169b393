#include "storage/disk/rocks_db.h"

#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/disk/row_groups.h"

namespace engram {
namespace {

constexpr size_t kReadAheadBytes = 2 << 20;

rocksdb::Slice AsSlice(absl::string_view text) { return {text.data(), text.size()}; }
absl::string_view AsView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

absl::Status FromRocks(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const std::string what = absl::StrCat("RocksDB: ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(what);
  if (status.IsCorruption() || status.IsPathNotFound()) return absl::DataLossError(what);
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(what);
  return absl::UnavailableError(what);
}

// RocksDB's own log says nothing that its statuses do not, and would write to the disk.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::Options MakeOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.block_size = kDiskBlockBytes;
  table.block_align = true;
  table.no_block_cache = true;  // the cache of rows stands before it
  table.format_version = 5;
  rocksdb::Options options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kNoCompression;
  options.info_log = std::make_shared<NoLog>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.disable_auto_compactions = true;
  options.max_open_files = -1;  // indexes are loaded once and stay
  // A file that is gone or cut must not keep the others from being read.
  options.paranoid_checks = false;
  return options;
}

// A database whose write has failed is closed, and RocksDB waits there for a recovery that it began
// beside that, also for one that was given up.
class NoRecovery final : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
};

// To change it. Whoever reads meanwhile has opened every file, and keeps those that are removed.
absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenToWrite(const std::string& database,
                                                         rocksdb::Options options) {
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.max_open_files = 64;  // It is not read.
  options.max_bgerror_resume_count = 0;
  options.listeners.push_back(std::make_shared<NoRecovery>());
  rocksdb::DB* opened = nullptr;
  RETURN_IF_ERROR(FromRocks(rocksdb::DB::Open(options, database, &opened)));
  return std::unique_ptr<rocksdb::DB>(opened);
}

}  // namespace

struct RocksFileWriter::Impl {
  explicit Impl(const rocksdb::Options& options) : writer(rocksdb::EnvOptions(), options) {}
  rocksdb::SstFileWriter writer;
};

RocksFileWriter::RocksFileWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RocksFileWriter::~RocksFileWriter() = default;

absl::StatusOr<std::unique_ptr<RocksFileWriter>> RocksFileWriter::Create(const std::string& path) {
  auto impl = std::make_unique<Impl>(MakeOptions());
  RETURN_IF_ERROR(FromRocks(impl->writer.Open(path)));
  return std::unique_ptr<RocksFileWriter>(new RocksFileWriter(std::move(impl)));
}

absl::Status RocksFileWriter::Put(absl::string_view key, absl::string_view value) {
  return FromRocks(impl_->writer.Put(AsSlice(key), AsSlice(value)));
}

absl::Status RocksFileWriter::Finish() { return FromRocks(impl_->writer.Finish()); }

absl::Status ReadRocksFile(const std::string& path, VisitValue visit) {
  rocksdb::SstFileReader reader(MakeOptions());
  RETURN_IF_ERROR(FromRocks(reader.Open(path)));
  rocksdb::ReadOptions read;
  read.readahead_size = kReadAheadBytes;
  const std::unique_ptr<rocksdb::Iterator> it(reader.NewIterator(read));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    RETURN_IF_ERROR(visit(AsView(it->key()), AsView(it->value())));
  }
  return FromRocks(it->status());
}

absl::Status IngestRocksFiles(const std::string& database, const std::vector<std::string>& files) {
  ASSIGN_OR_RETURN(const auto db, OpenToWrite(database, MakeOptions()));
  rocksdb::IngestExternalFileOptions ingest;
  ingest.move_files = true;
  ingest.failed_move_fall_back_to_copy = true;
  ingest.snapshot_consistency = false;
  ingest.write_global_seqno = false;
  RETURN_IF_ERROR(FromRocks(db->IngestExternalFile(files, ingest)));
  return FromRocks(db->Close());
}

absl::Status MergeRocksFiles(const std::string& database, absl::FunctionRef<bool()> stop) {
  constexpr uint64_t kMostFiles = 256;
  constexpr uint64_t kLeastFileBytes = 64 << 20;
  rocksdb::Options options = MakeOptions();
  options.rate_limiter.reset(rocksdb::NewGenericRateLimiter(kMergeBytesPerSecond));
  ASSIGN_OR_RETURN(const auto db, OpenToWrite(database, options));
  const int lowest = db->NumberLevels() - 1;
  std::vector<rocksdb::LiveFileMetaData> files;
  db->GetLiveFilesMetaData(&files);
  std::vector<std::string> names;
  uint64_t bytes = 0;
  bool merged = true;
  for (const rocksdb::LiveFileMetaData& file : files) {
    names.push_back(file.name);
    bytes += file.size;
    merged = merged && file.level == lowest;
  }
  if (merged) return FromRocks(db->Close());
  rocksdb::CompactionOptions compaction;
  compaction.compression = options.compression;
  compaction.output_file_size_limit = std::max(kLeastFileBytes, bytes / kMostFiles);
  auto done =
      std::async(std::launch::async, [&] { return db->CompactFiles(compaction, names, lowest); });
  while (done.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    if (stop()) rocksdb::CancelAllBackgroundWork(db.get(), /*wait=*/false);
  }
  const rocksdb::Status status = done.get();
  if (status.IsShutdownInProgress()) return absl::CancelledError("");
  RETURN_IF_ERROR(FromRocks(status));
  return FromRocks(db->Close());
}

struct RocksDb::Impl {
  ~Impl() {
    for (rocksdb::ColumnFamilyHandle* family : families) db->DestroyColumnFamilyHandle(family);
  }
  std::unique_ptr<rocksdb::DB> db;
  std::shared_ptr<rocksdb::Statistics> statistics;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
};

RocksDb::RocksDb(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RocksDb::~RocksDb() = default;

absl::StatusOr<std::unique_ptr<RocksDb>> RocksDb::Open(const std::string& database, bool direct) {
  rocksdb::Options options = MakeOptions();
  options.use_direct_reads = direct;
  options.statistics = rocksdb::CreateDBStatistics();
  options.statistics->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);
  if (options.env->FileExists(database + "/CURRENT").IsNotFound()) {
    return absl::NotFoundError(absl::StrCat("there is no database in ", database));
  }
  auto impl = std::make_unique<Impl>();
  // By its families: without them RocksDB takes a shortcut that does not survive a missing file.
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, options}};
  rocksdb::DB* opened = nullptr;
  RETURN_IF_ERROR(FromRocks(
      rocksdb::DB::OpenForReadOnly(options, database, families, &impl->families, &opened)));
  impl->db.reset(opened);
  impl->statistics = options.statistics;
  return std::unique_ptr<RocksDb>(new RocksDb(std::move(impl)));
}

absl::StatusOr<std::string> RocksDb::Get(absl::string_view key) const {
  std::string value;
  RETURN_IF_ERROR(FromRocks(impl_->db->Get(rocksdb::ReadOptions(), AsSlice(key), &value)));
  return value;
}

void RocksDb::Read(std::span<const absl::string_view> keys, VisitRead visit) const {
  rocksdb::DB& db = *impl_->db;
  std::vector<rocksdb::Slice> slices;
  for (const absl::string_view key : keys) slices.push_back(AsSlice(key));
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<rocksdb::Status> statuses(keys.size());
  const rocksdb::ReadOptions read;
  rocksdb::ColumnFamilyHandle* const family = db.DefaultColumnFamily();
  db.MultiGet(read, family, keys.size(), slices.data(), values.data(), statuses.data(),
              /*sorted_input=*/true);
  for (size_t i = 0; i < keys.size(); ++i) {
    // One file that cannot be opened fails a whole MultiGet: each key is asked for on its own.
    if (!statuses[i].ok()) {
      values[i].Reset();
      statuses[i] = db.Get(read, family, slices[i], &values[i]);
    }
    if (statuses[i].ok()) {
      visit(i, AsView(values[i]));
    } else if (statuses[i].IsNotFound()) {
      visit(i, absl::DataLossError("RocksDB: the rows are not there"));
    } else {
      visit(i, FromRocks(statuses[i]));
    }
  }
}

absl::Status RocksDb::Scan(absl::string_view begin, absl::string_view end, VisitValue visit) const {
  rocksdb::ReadOptions read;
  read.readahead_size = kReadAheadBytes;
  const rocksdb::Slice upper = AsSlice(end);
  read.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(read));
  for (it->Seek(AsSlice(begin)); it->Valid(); it->Next()) {
    RETURN_IF_ERROR(visit(AsView(it->key()), AsView(it->value())));
  }
  return FromRocks(it->status());
}

uint64_t RocksDb::index_bytes() const {
  uint64_t bytes = 0;
  impl_->db->GetIntProperty(rocksdb::DB::Properties::kEstimateTableReadersMem, &bytes);
  return bytes;
}

uint64_t RocksDb::file_bytes() const {
  uint64_t bytes = 0;
  impl_->db->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &bytes);
  return bytes;
}

bool RocksDb::crowded() const {
  for (int level = 0; level <= 1; ++level) {
    std::string files;
    impl_->db->GetProperty(absl::StrCat(rocksdb::DB::Properties::kNumFilesAtLevelPrefix, level),
                           &files);
    if (files != "0") return true;
  }
  return false;
}

uint64_t RocksDb::read_bytes() const {
  return impl_->statistics->getTickerCount(rocksdb::BYTES_READ) +
         impl_->statistics->getTickerCount(rocksdb::NUMBER_MULTIGET_BYTES_READ);
}

}  // namespace engram

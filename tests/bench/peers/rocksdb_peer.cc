// RocksDB, in this process, all of its blocks in its cache.
//
// What was tried, each with a million rows in the cache: blocks of 4 KiB with a hash index inside
// (against binary search, and blocks of 0.5, 1 and 16 KiB), the lock-free HyperClockCache (a tenth
// to a fifth faster than the LRU cache), MultiGet of the whole batch with keys sorted beforehand
// (faster for large batches, equal for small ones). A bloom filter only costs, as every row exists;
// a hash index over blocks and a cache on huge pages made no difference.
#include <endian.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/synth_rows.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/peers/peer_rows.h"

namespace engram::bench {
namespace {

absl::Status FromRocksDb(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("rocksdb: ", status.ToString()));
}

// Big-endian: in the order of the ids.
rocksdb::Slice AsSlice(const uint64_t& key) {
  return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

std::shared_ptr<rocksdb::Cache> MakeCache(uint64_t rows, size_t block_bytes) {
  const size_t bytes = 2 * rows * kSynthRowBytes + (64 << 20);
  return rocksdb::HyperClockCacheOptions(bytes, block_bytes, /*num_shard_bits=*/0)
      .MakeSharedCache();
}

rocksdb::Options MakeOptions(rocksdb::BlockBasedTableOptions table) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

absl::Status WriteFile(const rocksdb::Options& options, uint64_t rows, const std::string& path) {
  rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), options);
  RETURN_IF_ERROR(FromRocksDb(writer.Open(path)));
  char value[kSynthRowBytes];
  for (uint64_t row = 0; row < rows; ++row) {
    SynthRow(kPeerSeed, kPeerLayer, row, reinterpret_cast<uint8_t*>(value));
    const uint64_t key = htobe64(row);
    RETURN_IF_ERROR(FromRocksDb(writer.Put(AsSlice(key), {value, sizeof(value)})));
  }
  return FromRocksDb(writer.Finish());
}

// Reads every row once, so that every block is in the cache, and looks whether it is.
absl::Status FillCache(rocksdb::DB& db, const rocksdb::Cache& cache, uint64_t rows) {
  const std::unique_ptr<rocksdb::Iterator> row(db.NewIterator(rocksdb::ReadOptions()));
  uint64_t seen = 0;
  for (row->SeekToFirst(); row->Valid(); row->Next()) ++seen;
  RETURN_IF_ERROR(FromRocksDb(row->status()));
  if (seen != rows) return absl::InternalError(absl::StrCat("rocksdb: has only ", seen, " rows"));
  if (cache.GetUsage() >= rows * kSynthRowBytes) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("rocksdb: only ", cache.GetUsage(), " bytes are in the cache"));
}

class RocksDbPeer final : public Peer {
 public:
  explicit RocksDbPeer(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}

  // One batch at a time: there is one thread, and nothing to wait for.
  absl::Status Ask(BatchRun& run) override {
    while (BatchRun::Batch* batch = run.Next()) {
      RETURN_IF_ERROR(Gather(batch->ids, batch->out.data()));
      run.Done(*batch);
    }
    return absl::OkStatus();
  }

 private:
  void Resize(size_t rows) {
    if (keys_.size() == rows) return;
    keys_.resize(rows);
    slices_.clear();
    for (const uint64_t& key : keys_) slices_.push_back(AsSlice(key));
    values_ = std::vector<rocksdb::PinnableSlice>(rows);
    statuses_.resize(rows);
  }

  absl::Status Gather(std::span<const int64_t> ids, uint8_t* out) {
    Resize(ids.size());
    SortRows(ids, sorted_);
    for (size_t i = 0; i < ids.size(); ++i) keys_[i] = htobe64(sorted_[i].row);
    db_->MultiGet(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), ids.size(), slices_.data(),
                  values_.data(), statuses_.data(), /*sorted_input=*/true);
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t row = ids[sorted_[i].position];
      if (statuses_[i].IsNotFound()) return MissingRow("rocksdb", row);
      RETURN_IF_ERROR(FromRocksDb(statuses_[i]));
      if (values_[i].size() != kSynthRowBytes) return WrongSize("rocksdb", row, values_[i].size());
      std::memcpy(out + size_t{sorted_[i].position} * kSynthRowBytes, values_[i].data(),
                  kSynthRowBytes);
      values_[i].Reset();  // lets go of its block
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<rocksdb::DB> db_;
  std::vector<RowAt> sorted_;
  // Of the rows in `sorted_`.
  std::vector<uint64_t> keys_;
  std::vector<rocksdb::Slice> slices_;  // into keys_
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeRocksDbPeer(const PeerSetup& setup) {
  rocksdb::BlockBasedTableOptions table;
  table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  table.block_cache = MakeCache(setup.rows, table.block_size);
  const rocksdb::Options options = MakeOptions(table);

  const std::string file = setup.directory + "/rocksdb.sst";
  RETURN_IF_ERROR(WriteFile(options, setup.rows, file));
  rocksdb::DB* opened = nullptr;
  RETURN_IF_ERROR(FromRocksDb(rocksdb::DB::Open(options, setup.directory + "/rocksdb", &opened)));
  std::unique_ptr<rocksdb::DB> db(opened);
  rocksdb::IngestExternalFileOptions ingest;
  ingest.move_files = true;
  RETURN_IF_ERROR(FromRocksDb(db->IngestExternalFile({file}, ingest)));
  RETURN_IF_ERROR(FillCache(*db, *table.block_cache, setup.rows));
  return std::make_unique<RocksDbPeer>(std::move(db));
}

}  // namespace engram::bench

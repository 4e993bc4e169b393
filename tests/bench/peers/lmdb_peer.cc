// LMDB, in this process: a B+ tree in a mapped file, read through the page cache.
#include <lmdb.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "storage/synth_rows.h"
#include "tests/bench/peers/peer.h"
#include "tests/bench/peers/peer_rows.h"

namespace engram::bench {
namespace {

constexpr uint64_t kTransactionRows = 1 << 16;  // per transaction
// A page of 4 KiB holds 14 rows; the pages above them are few.
constexpr uint64_t kMapBytesPerRow = 320;

absl::Status FromLmdb(int code) {
  if (code == MDB_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("lmdb: ", mdb_strerror(code)));
}

struct CloseEnv {
  void operator()(MDB_env* env) const { mdb_env_close(env); }
};
struct AbortTxn {
  void operator()(MDB_txn* txn) const { mdb_txn_abort(txn); }
};
using Env = std::unique_ptr<MDB_env, CloseEnv>;
using Txn = std::unique_ptr<MDB_txn, AbortTxn>;

absl::StatusOr<Env> OpenEnv(const PeerSetup& setup) {
  const std::string directory = setup.directory + "/lmdb";
  std::error_code error;
  std::filesystem::create_directory(directory, error);
  MDB_env* created = nullptr;
  RETURN_IF_ERROR(FromLmdb(mdb_env_create(&created)));
  Env env(created);
  RETURN_IF_ERROR(
      FromLmdb(mdb_env_set_mapsize(env.get(), setup.rows * kMapBytesPerRow + (64 << 20))));
  // No sync by transaction: nothing here has to outlive the machine. No read-ahead: all of it is in
  // memory.
  constexpr unsigned kFlags = MDB_WRITEMAP | MDB_NOSYNC | MDB_NORDAHEAD | MDB_NOTLS;
  RETURN_IF_ERROR(FromLmdb(mdb_env_open(env.get(), directory.c_str(), kFlags, 0600)));
  return env;
}

absl::StatusOr<Txn> Begin(MDB_env* env, unsigned flags) {
  MDB_txn* txn = nullptr;
  RETURN_IF_ERROR(FromLmdb(mdb_txn_begin(env, nullptr, flags, &txn)));
  return Txn(txn);
}

// Rows [begin, end), which follow those that are there.
absl::StatusOr<MDB_dbi> Append(MDB_env* env, uint64_t begin, uint64_t end) {
  ASSIGN_OR_RETURN(Txn txn, Begin(env, 0));
  MDB_dbi table = 0;
  RETURN_IF_ERROR(FromLmdb(mdb_dbi_open(txn.get(), nullptr, MDB_INTEGERKEY | MDB_CREATE, &table)));
  uint8_t bytes[kSynthRowBytes];
  for (uint64_t row = begin; row < end; ++row) {
    SynthRow(kPeerSeed, kPeerLayer, row, bytes);
    MDB_val key{sizeof(row), &row};
    MDB_val value{sizeof(bytes), bytes};
    RETURN_IF_ERROR(FromLmdb(mdb_put(txn.get(), table, &key, &value, MDB_APPEND)));
  }
  RETURN_IF_ERROR(FromLmdb(mdb_txn_commit(txn.release())));
  return table;
}

class LmdbPeer final : public Peer {
 public:
  LmdbPeer(Env env, MDB_dbi table, Txn txn)
      : env_(std::move(env)), table_(table), txn_(std::move(txn)) {}

  // One batch at a time: there is one thread, and nothing to wait for.
  absl::Status Ask(BatchRun& run) override {
    while (BatchRun::Batch* batch = run.Next()) {
      RETURN_IF_ERROR(Gather(batch->ids, batch->out.data()));
      run.Done(*batch);
    }
    return absl::OkStatus();
  }

  // All at once, in sorted order: faster for large batches, equal for small ones. `txn_` is reset
  // between batches, so that each sees the table as it is then.
  absl::Status Gather(std::span<const int64_t> ids, uint8_t* out) {
    SortRows(ids, sorted_);
    RETURN_IF_ERROR(FromLmdb(mdb_txn_renew(txn_.get())));
    absl::Status status;
    for (size_t i = 0; i < sorted_.size() && status.ok(); ++i) {
      status = Get(sorted_[i].row, out + size_t{sorted_[i].position} * kSynthRowBytes);
    }
    mdb_txn_reset(txn_.get());
    return status;
  }

 private:
  absl::Status Get(uint64_t row, uint8_t* out) {
    MDB_val key{sizeof(row), &row};
    MDB_val value;
    const int code = mdb_get(txn_.get(), table_, &key, &value);
    if (code == MDB_NOTFOUND) return MissingRow("lmdb", static_cast<int64_t>(row));
    RETURN_IF_ERROR(FromLmdb(code));
    if (value.mv_size != kSynthRowBytes) {
      return WrongSize("lmdb", static_cast<int64_t>(row), value.mv_size);
    }
    std::memcpy(out, value.mv_data, kSynthRowBytes);
    return absl::OkStatus();
  }

  const Env env_;
  const MDB_dbi table_;
  const Txn txn_;  // reset between calls
  std::vector<RowAt> sorted_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeLmdbPeer(const PeerSetup& setup) {
  ASSIGN_OR_RETURN(Env env, OpenEnv(setup));
  MDB_dbi table = 0;
  for (uint64_t begin = 0; begin < setup.rows; begin += kTransactionRows) {
    ASSIGN_OR_RETURN(table,
                     Append(env.get(), begin, std::min(setup.rows, begin + kTransactionRows)));
  }
  // Now, or the kernel writes it out while it is measured.
  RETURN_IF_ERROR(FromLmdb(mdb_env_sync(env.get(), /*force=*/1)));
  ASSIGN_OR_RETURN(Txn txn, Begin(env.get(), MDB_RDONLY));
  mdb_txn_reset(txn.get());
  return std::make_unique<LmdbPeer>(std::move(env), table, std::move(txn));
}

}  // namespace engram::bench

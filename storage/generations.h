// A server's generations: those it serves, published, activated and retired while it serves, and
// what of it lasts over a restart.
//
// A data directory holds `catalogue` (storage/catalogue.h), `delta-N` for every generation that is
// not the loaded table's (storage/delta_file.h: the rows of this server's ranges) and `lock`. What
// an interrupted change left there is removed, or ended, at the next start.
#ifndef ENGRAM_STORAGE_GENERATIONS_H_
#define ENGRAM_STORAGE_GENERATIONS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/mutex.h"
#include "storage/catalogue.h"
#include "storage/changed_rows.h"
#include "storage/delta_file.h"
#include "storage/generation_set.h"
#include "storage/table.h"

namespace engram {

// A piece of the delta of one server's ranges, as storage/delta_file.h has it.
struct DeltaPiece {
  Sha256 target{};
  absl::string_view header;   // of the part; in the first piece alone
  uint64_t first = 0;         // records in the pieces before; 0 begins anew
  absl::string_view records;  // whole ones
  bool last = false;
};

// Thread-safe. Changes come one at a time; readers never wait for one.
class Generations {
 public:
  // Of a table alone, which takes no changes.
  explicit Generations(std::shared_ptr<const Table> table);
  // With a data directory, made if need be: restores what was held. The table is what its deltas
  // are on, or one of their targets that all served generations are, or are built on: what led
  // there is dropped. InvalidArgument: it is of another table or of other ranges.
  // FailedPrecondition: another process has it. DataLoss: what is in it is damaged.
  // ResourceExhausted: its deltas do not fit into memory. Else the system's code. `log` may be
  // null.
  static absl::StatusOr<std::unique_ptr<Generations>> Open(
      std::shared_ptr<const Table> table, const std::string& data_dir,
      std::function<void(absl::string_view)> log);
  ~Generations();  // waits for a fold's batch

  // What is held now, and a number that grows with every change of it.
  std::shared_ptr<const GenerationSet> current() const;
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // Called on the thread of a change, when current() is the new one; must not come back here. Null:
  // nobody any more, and no call is under way.
  void Listen(std::function<void()> listener);

  // Takes a piece of a delta; with the last one the generation is held and durable. One that is
  // held already is OK whatever piece comes.
  //   FailedPrecondition  no data directory; another base than those held; a row that differs from
  //                       the base's; a piece that does not follow the one before
  //   InvalidArgument     not a delta of this table: other geometry, token map or row layout
  //   DataLoss            damaged, out of order, or cut off
  //   ResourceExhausted   no room on disk or in memory
  // After an error the delta is to be sent again from its front.
  absl::Status Publish(const DeltaPiece& piece);
  // Makes a held generation the active one. NotFound: it is not held. Durable when it returns.
  absl::Status Activate(const Sha256& digest);
  // Serves it no more: requests for it get FailedPrecondition, those that were admitted are
  // answered. FailedPrecondition: it is the active one. NotFound: it is not held. Durable when it
  // returns; memory is given back in the background.
  absl::Status Retire(const Sha256& digest);

 private:
  // A delta that is coming in.
  struct Staging {
    Staging(uint64_t its_id, uint64_t its_parent, DeltaHeader its_header)
        : id(its_id), parent(its_parent), header(std::move(its_header)) {}

    const uint64_t id;
    const uint64_t parent;
    const DeltaHeader header;
    DeltaChecker checker{header, "the delta"};
    std::unique_ptr<DeltaWriter> writer;
    uint64_t taken = 0;
  };

  Generations(std::shared_ptr<const Table> table, std::string data_dir, int lock_fd,
              std::function<void(absl::string_view)> log);

  absl::Status Restore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::Status RemoveLeftovers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::Status BeginPublish(const DeltaPiece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::Status TakeRecords(const DeltaPiece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::Status EndPublish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::Status CheckHeader(const DeltaHeader& header) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  absl::StatusOr<std::shared_ptr<const RowStore>> LoadDelta(const KeptGeneration& generation,
                                                            std::shared_ptr<const RowStore> base)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // The overlays that all served generations share, the lowest first.
  std::vector<std::shared_ptr<const ChangedRows>> SharedOverlays() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // The lowest overlays of all that is held were folded, up to the generation `target`.
  absl::Status DropFolded(size_t overlays, const Sha256& target)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // A merged delta takes the place of two, under a new id.
  absl::Status ReplaceByMerged(uint64_t lower, uint64_t upper, uint64_t id,
                               const std::string& merged) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // Writes the catalogue, then has readers see it.
  absl::Status Commit(Catalogue catalogue) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // Of the delta that comes next.
  uint64_t NextId() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // Removes the delta of a generation that Commit has failed to add. Where it failed after the new
  // catalogue was in its place (the directory could not be synced) either may be what the next
  // start finds: the delta stays for it, and its id is not used again.
  void DropDelta(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  void ShowSet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  // What is held of one of the catalogue's.
  std::shared_ptr<const HeldGeneration> Hold(const KeptGeneration& kept,
                                             std::shared_ptr<const RowStore> rows)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  std::string DeltaPath(uint64_t id) const;

  // The folding thread. Rows of the deltas that every generation held shares are written over the
  // table's. The deltas themselves go where the table keeps that; where it does not, that of a
  // retired generation and that of the only one built on it become one.
  void FoldLoop();
  bool FoldRows();   // false: there is nothing to fold
  bool FoldFiles();  // the same
  void WakeFolder();
  bool Stopped() const;
  void Log(const std::string& line) const;

  const std::shared_ptr<const Table> table_;
  const std::string data_dir_;  // empty: none
  const int lock_fd_;
  const std::function<void(absl::string_view)> log_;

  Mutex change_;  // of whoever changes what is held
  Catalogue catalogue_ ABSL_GUARDED_BY(change_);
  std::map<uint64_t, std::shared_ptr<const HeldGeneration>> held_
      ABSL_GUARDED_BY(change_);  // by id
  std::unique_ptr<Staging> staging_ ABSL_GUARDED_BY(change_);
  uint64_t unsure_id_ ABSL_GUARDED_BY(change_) = 0;  // see DropDelta
  // Generations that readers may still have, though no set names them.
  std::vector<std::weak_ptr<const HeldGeneration>> leaving_ ABSL_GUARDED_BY(change_);

  mutable Mutex mutex_;
  CondVar fold_changed_;
  std::shared_ptr<const GenerationSet> set_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> listener_ ABSL_GUARDED_BY(mutex_);
  bool fold_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> version_{0};
  std::thread folder_;  // last: it uses all of the above
};

}  // namespace engram

#endif  // ENGRAM_STORAGE_GENERATIONS_H_

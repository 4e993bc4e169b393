// Verification of a store's rows while it serves.
#ifndef ENGRAM_STORAGE_VERIFIER_H_
#define ENGRAM_STORAGE_VERIFIER_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"
#include "storage/parallel.h"
#include "storage/row_store.h"

namespace engram {

struct VerifierOptions {
  // Bytes of rows a second at most, so that serving keeps cores and disk; 0: as fast as can be.
  uint64_t bytes_per_second = 500'000'000;
  // From the end of a pass to the start of the next; infinite: one pass.
  absl::Duration interval = absl::InfiniteDuration();
  std::function<void(absl::string_view)> log;  // a line now and then; may be null
  // The tables that are served over the store, asked for in each pass behind its own rows: rows
  // that they have changed are verified, too. May be null.
  std::function<std::vector<std::shared_ptr<const RowStore>>()> served;
};

// A thread "engram-verify" that walks over all rows, block by block, keeps store.state() up to date
// and stops at the first row that is not what it was. Borrows the store.
class Verifier {
 public:
  Verifier(const RowStore& store, VerifierOptions options);
  ~Verifier();  // stops within a block's time

 private:
  void Run();
  bool RunPass();
  // Of one pass: what it has done, and when it began.
  struct Pass;
  bool VerifyRows(Pass& pass);
  bool VerifyChangedRows(Pass& pass);
  // Whether a row was found to differ, which fails the store.
  bool Failed(const absl::Status& status);
  // Waits until `bytes` more may have been verified; false when it is to stop.
  bool Pace(Pass& pass, uint64_t bytes);
  // Sleeps until `time`; false when it is to stop.
  bool SleepUntil(absl::Time time);
  void Log(const std::string& line) const;

  const RowStore& store_;
  const VerifierOptions options_;
  Mutex mutex_;
  CondVar stop_changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses all of the above
};

// Verifies the first rows, the last ones, and some from all over between them: in a time that does
// not depend on how many there are. Codes as RowStore::Verify.
absl::Status VerifySample(const RowStore& store);

// Verifies all rows at once, with several threads and progress. Codes as RowStore::Verify.
absl::Status VerifyAll(const RowStore& store, const ParallelOptions& parallel);

}  // namespace engram

#endif  // ENGRAM_STORAGE_VERIFIER_H_

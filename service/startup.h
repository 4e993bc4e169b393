// How far a server has come on its way to serving, for its log and its metrics.
#ifndef ENGRAM_SERVICE_STARTUP_H_
#define ENGRAM_SERVICE_STARTUP_H_

#include <array>
#include <functional>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"
#include "storage/parallel.h"

namespace engram {

// In their order; one may be left out.
enum class StartupState {
  kStarting,   // flags and addresses
  kLoading,    // the table's bytes, or the database that has them
  kVerifying,  // all rows against their checksums, where that is waited for
  kWarming,    // rows into the page cache
  kServing,    // over: what comes now is the server's own (Server::draining, StoreState)
};
inline constexpr std::array<const char*, 5> kStartupStates = {"starting", "loading", "verifying",
                                                              "warming", "serving"};

// Any thread.
class Startup {
 public:
  // `log` gets a line for each state; may be null.
  explicit Startup(std::function<void(absl::string_view)> log) : log_(std::move(log)) {}

  void Enter(StartupState state);
  StartupState state() const;

  // Of whoever works on the state; over all of them.
  LoadProgress& progress() { return progress_; }

  // Of the bytes known so far, 0 to 1; 1 when it is over.
  double ratio() const;
  // Of the state, at the rate that it has had so far; NaN: nothing is known yet. 0 when it is over.
  double remaining_seconds() const;
  // Since the start; stands still when it is over.
  absl::Duration took() const;

 private:
  const std::function<void(absl::string_view)> log_;
  const absl::Time start_ = absl::Now();
  LoadProgress progress_;
  mutable Mutex mutex_;
  StartupState state_ ABSL_GUARDED_BY(mutex_) = StartupState::kStarting;
  absl::Time entered_ ABSL_GUARDED_BY(mutex_) = start_;
  uint64_t done_before_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes, when the state was entered
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_STARTUP_H_

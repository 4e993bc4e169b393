// SIGTERM and SIGINT, which end a server, and SIGUSR1, which asks it something.
#ifndef ENGRAM_SERVICE_END_SIGNALS_H_
#define ENGRAM_SERVICE_END_SIGNALS_H_

#include <signal.h>

#include <functional>

#include "absl/strings/string_view.h"
#include "proto/base/mutex.h"

namespace engram {

// A thread "engram-signals" takes them, none other: make it before any other thread is started,
// once a process, and keep it until the process ends. Before Serve a signal ends the process at
// once, since nobody waits for what has been loaded so far; after it the first one lets Wait
// return, for a drain, and the second ends the process at once. The exit code is 0. SIGUSR1 does
// nothing before Serve.
class EndSignals {
 public:
  // `log` gets a line for each signal.
  explicit EndSignals(std::function<void(absl::string_view)> log);
  EndSignals(const EndSignals&) = delete;

  // `asked` is called for SIGUSR1 from now on, until the first signal to end.
  void Serve(std::function<void()> asked);
  // Of the first signal after Serve.
  void Wait();

 private:
  void Run();

  const std::function<void(absl::string_view)> log_;
  sigset_t signals_;
  Mutex mutex_;
  CondVar changed_;
  std::function<void()> asked_ ABSL_GUARDED_BY(mutex_);
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool signalled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_END_SIGNALS_H_

#include "service/end_signals.h"

#include <pthread.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {

EndSignals::EndSignals(std::function<void(absl::string_view)> log) : log_(std::move(log)) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);  // also in threads to come
  std::thread([this] { Run(); }).detach();
}

void EndSignals::Run() {
  pthread_setname_np(pthread_self(), "engram-signals");
  while (true) {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0) continue;
    bool serving = false, drain = false;
    {
      MutexLock lock(&mutex_);
      if (signal == SIGUSR1) {
        if (serving_ && !signalled_) asked_();
        continue;
      }
      serving = serving_;
      drain = serving_ && !std::exchange(signalled_, true);
    }
    log_(absl::StrCat("signal ", signal,
                      drain     ? ": draining"
                      : serving ? " while draining: ending at once"
                                : " before serving: ending at once"));
    if (!drain) _exit(0);
    MutexLock lock(&mutex_);
    changed_.NotifyAll();
  }
}

void EndSignals::Serve(std::function<void()> asked) {
  MutexLock lock(&mutex_);
  asked_ = std::move(asked);
  serving_ = true;
}

void EndSignals::Wait() {
  MutexLock lock(&mutex_);
  while (!signalled_) changed_.Wait(&mutex_);
}

}  // namespace engram

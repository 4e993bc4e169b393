// One serving thread: a completion queue, polled by the thread that does all the work of its calls.
#ifndef ENGRAM_SERVICE_WORKER_H_
#define ENGRAM_SERVICE_WORKER_H_

#include <grpcpp/alarm.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "absl/time/time.h"
#include "service/call.h"

namespace engram {

// The thread runs from Start until kClosing has been told and no call is left; then it has shut its
// queue down and emptied it. All but the methods below happens on it.
class Worker {
 public:
  explicit Worker(CallContext context);
  // The thread must have been joined, or never started.
  ~Worker();

  CallContext& context() { return context_; }

  // Listen for calls before.
  void Start();
  // Waits for the thread's end; nothing where it was not started.
  void Join();

  // Any thread. Brings the phase, which the server has entered, to the calls. Once for each.
  void Tell(Phase phase);
  // Any thread, before Tell(kClosing). Has the thread let go of generations that are held no
  // more, and brings the change to the calls.
  void TellHeldChanged();
  // Any thread, at most once, before Tell(kClosing). Brings the failure of the store to the calls.
  void TellStoreFailure();

 private:
  // An alarm that brings something to the thread.
  struct Notice {
    explicit Notice(std::function<void(bool)> then) : completion(std::move(then)) {}
    grpc::Alarm alarm;
    Completion completion;
  };

  // What has come of an operation.
  struct Event {
    void* tag = nullptr;
    bool ok = false;
  };

  void Run();
  // Handles an event that is there. False: there is none.
  bool TakeEvent();
  // Waits for an event, polling before it sleeps, and handles it. False: the queue is at its end.
  bool WaitForEvent();
  // False: none has come until then.
  bool Next(gpr_timespec until, Event& event);
  void Handle(const Event& event);
  void Set(Notice& notice);
  void OnPhase(Phase phase);

  CallContext context_;
  std::array<std::unique_ptr<Notice>, 3> phases_;  // of kDraining, kEnding, kClosing
  Notice store_failure_;
  Notice held_changed_;
  std::atomic<bool> held_change_told_{false};  // and has not come to the thread yet
  bool closing_ = false;                       // kClosing has come to the thread
  bool shut_down_ = false;                     // the queue
  std::thread thread_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_WORKER_H_

// A thread that does the work of lookups, and the way to it.
#ifndef ENGRAM_CLIENT_IO_THREAD_H_
#define ENGRAM_CLIENT_IO_THREAD_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "client/event_loop.h"
#include "client/fan_out.h"
#include "client/lookup.h"
#include "client/options.h"
#include "client/resolver.h"
#include "proto/base/mutex.h"

namespace engram {

// Owns an event loop, connections of its own to every server, and the thread "engram-io-<index>"
// that handles the one and works for the others. Whoever submits leaves a command in a list and
// wakes the thread only where it sleeps. All methods: any thread.
class IoThread final : public LookupOwner {
 public:
  // The system's code where it has no more descriptors.
  // `index`: among the client's. Borrows `options`.
  static absl::StatusOr<std::unique_ptr<IoThread>> Start(const ClientOptions& options,
                                                         CredentialSource* credentials,
                                                         size_t index);
  ~IoThread() override { Close(); }

  // Fails outstanding lookups with CANCELLED; returns when the thread has ended and nothing touches
  // their buffers. What is asked afterwards is not done.
  void Close();

  // Rows that prefetches have already go to their places here and now (see FinishAtOnce); all else
  // is the thread's. True: the thread will come to it, whenever it is closed. False: closed, and
  // nothing was touched. Takes a lock that is held for moments alone.
  bool Submit(std::shared_ptr<Lookup> lookup);
  void Cancel(std::shared_ptr<Lookup> lookup) override;
  void Resume(std::shared_ptr<Lookup> lookup, uint32_t layer) override;
  uint64_t table() const override { return fan_out_.table(); }
  void SetServers(std::vector<std::string> servers);
  // Has the thread call it, and waits for that: by any other thread. False: closed.
  bool Call(const std::function<void()>& what);

  FanOut& fan_out() { return fan_out_; }
  const FanOut& fan_out() const { return fan_out_; }

 private:
  struct Command {
    enum class Kind { kStart, kResume, kCancel, kSetServers, kCall };

    Kind kind;
    std::shared_ptr<Lookup> lookup;
    uint32_t layer = 0;                     // to resume
    std::vector<std::string> servers = {};  // to set
    std::function<void()> call = nullptr;
  };

  IoThread(const ClientOptions& options, CredentialSource* credentials,
           std::unique_ptr<EventLoop> loop, size_t index);
  bool Post(Command command);
  void WakeUp();
  void RunCommand(Command& command);
  void Run(size_t index);
  bool RunCommands();
  void TakeCommands();
  void WaitForSubmits();
  // Polls for the time that the options say, then sleeps until there is something to do.
  void Wait();

  const ClientOptions& options_;
  const std::unique_ptr<EventLoop> loop_;
  Resolver resolver_;
  std::vector<uint8_t> scratch_;
  FanOut fan_out_;

  // A submitter writes has_commands_, then looks at asleep_; the thread the other way round. One of
  // them sees the other.
  std::atomic<bool> has_commands_{false};
  std::atomic<bool> asleep_{false};
  Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  // Those in Submit whose command is still to come. The thread does not end before it has.
  size_t submitting_ ABSL_GUARDED_BY(mutex_) = 0;
  CondVar submitted_;

  std::vector<Command> running_;  // the thread's; keeps its memory
  std::thread thread_;            // last: it uses all of the above
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_IO_THREAD_H_

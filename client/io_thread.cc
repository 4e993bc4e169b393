#include "client/io_thread.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/step_rows.h"
#include "proto/base/spin.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// What is read of a socket at once: it stays in the core's cache until it is scattered, and a small
// answer on another connection waits no longer than its scattering takes.
constexpr size_t kReadBytes = 256 << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<IoThread>> IoThread::Start(const ClientOptions& options,
                                                          CredentialSource* credentials,
                                                          size_t index) {
  ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::Create());
  return std::unique_ptr<IoThread>(new IoThread(options, credentials, std::move(loop), index));
}

IoThread::IoThread(const ClientOptions& options, CredentialSource* credentials,
                   std::unique_ptr<EventLoop> loop, size_t index)
    : options_(options),
      loop_(std::move(loop)),
      scratch_(kReadBytes),
      fan_out_(options, {loop_.get(), scratch_, credentials}, &resolver_),
      thread_([this, index] { Run(index); }) {}

void IoThread::Close() {
  {
    MutexLock lock(&mutex_);
    closing_ = true;
  }
  has_commands_.store(true);
  loop_->Wake();
  if (thread_.joinable()) thread_.join();
}

bool IoThread::Submit(std::shared_ptr<Lookup> lookup) {
  {
    MutexLock lock(&mutex_);
    if (closing_) return false;
    ++submitting_;
  }
  // From here on it is not refused: a word that has said "ready" stands. Rows that are there need
  // no other thread to wake up. It still calls back, in its order.
  FinishAtOnce(*lookup);
  {
    MutexLock lock(&mutex_);
    commands_.push_back({Command::Kind::kStart, std::move(lookup)});
    --submitting_;
    if (closing_) submitted_.NotifyAll();
  }
  WakeUp();
  return true;
}

void IoThread::Cancel(std::shared_ptr<Lookup> lookup) {
  Post({Command::Kind::kCancel, std::move(lookup)});
}

void IoThread::Resume(std::shared_ptr<Lookup> lookup, uint32_t layer) {
  Post({Command::Kind::kResume, std::move(lookup), layer});
}

void IoThread::SetServers(std::vector<std::string> servers) {
  Post({Command::Kind::kSetServers, nullptr, 0, std::move(servers)});
}

bool IoThread::Call(const std::function<void()>& what) {
  Mutex mutex;
  CondVar changed;
  bool called = false;
  // What was posted is run, even where the thread ends.
  if (!Post({.kind = Command::Kind::kCall, .lookup = nullptr, .call = [&] {
               what();
               MutexLock lock(&mutex);
               called = true;
               changed.NotifyAll();
             }})) {
    return false;
  }
  MutexLock lock(&mutex);
  while (!called) changed.Wait(&mutex);
  return true;
}

bool IoThread::Post(Command command) {
  {
    MutexLock lock(&mutex_);
    if (closing_) return false;
    commands_.push_back(std::move(command));
  }
  WakeUp();
  return true;
}

void IoThread::WakeUp() {
  has_commands_.store(true);
  if (asleep_.load()) loop_->Wake();
}

void IoThread::RunCommand(Command& command) {
  switch (command.kind) {
    case Command::Kind::kStart:
      // A step's requests leave before what is fetched ahead is so much as looked at.
      if (command.lookup->priority != LookupPriority::kDecode) fan_out_.Flush();
      return fan_out_.Start(std::move(command.lookup));
    case Command::Kind::kResume:
      return fan_out_.Resume(command.lookup, command.layer);
    case Command::Kind::kCancel:
      return fan_out_.Cancel(*command.lookup, absl::CancelledError("the lookup was cancelled"));
    case Command::Kind::kSetServers:
      return fan_out_.servers().SetServers(command.servers);
    case Command::Kind::kCall:
      return command.call();
  }
}

bool IoThread::RunCommands() {
  if (!has_commands_.load(std::memory_order_relaxed)) return false;
  has_commands_.store(false);
  TakeCommands();
  return true;
}

void IoThread::TakeCommands() {
  {
    MutexLock lock(&mutex_);
    running_.swap(commands_);
  }
  for (Command& command : running_) RunCommand(command);
  running_.clear();
}

void IoThread::WaitForSubmits() {
  MutexLock lock(&mutex_);
  while (submitting_ > 0) submitted_.Wait(&mutex_);
}

void IoThread::Wait() {
  const auto something = [this] {
    return has_commands_.load(std::memory_order_relaxed) || loop_->Poll(absl::ZeroDuration());
  };
  if (SpinUntil(std::min(options_.spin, fan_out_.NextTick() - absl::Now()), something)) return;
  asleep_.store(true);
  if (!has_commands_.load()) loop_->Poll(fan_out_.NextTick() - absl::Now());
  asleep_.store(false);
}

// What was submitted goes first: its rows travel while the rest is done. Requests leave before
// whatever has come is handled.
void IoThread::Run(size_t index) {
  pthread_setname_np(pthread_self(), absl::StrCat("engram-io-", index).c_str());
  if (!options_.cpus.empty()) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(options_.cpus[index % options_.cpus.size()]), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0 && options_.log) {
      options_.log("an I/O thread could not be tied to its core");
    }
  }
  while (true) {
    if (RunCommands()) {
      MutexLock lock(&mutex_);
      if (closing_) break;
    }
    const absl::Time now = absl::Now();
    // What has woken it may be a name that was looked up.
    if (loop_->TakeWoken() || now >= fan_out_.NextTick()) fan_out_.Tick(now);
    fan_out_.Flush();
    if (!loop_->Poll(absl::ZeroDuration()) && !has_commands_.load(std::memory_order_relaxed)) {
      Wait();
    }
  }
  fan_out_.Shutdown();
  // What was submitted late fails at once. has_commands_ may not say so yet: whoever leaves a
  // command writes it afterwards.
  WaitForSubmits();
  TakeCommands();
}

}  // namespace engram

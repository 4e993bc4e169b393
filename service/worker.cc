#include "service/worker.h"

#include <pthread.h>

#include <utility>

#include "absl/time/clock.h"
#include "proto/base/spin.h"

namespace engram {
namespace {

const gpr_timespec kNoWait = gpr_time_0(GPR_CLOCK_MONOTONIC);
const gpr_timespec kForEver = gpr_inf_future(GPR_CLOCK_MONOTONIC);
// What gRPC has ready may be seen in a wait only, which is then over at once.
constexpr int64_t kIdleNs = 1'000'000;
// Events that are taken in, one after the other, before anything is answered.
constexpr size_t kMostEvents = 64;

}  // namespace

Worker::Worker(CallContext context)
    : context_(std::move(context)),
      store_failure_([this](bool) {
        for (LongCall* call : context_.long_calls) call->OnStoreFailure();
      }),
      held_changed_([this](bool) {
        held_change_told_ = false;
        context_.Held();
        for (LongCall* call : context_.long_calls) call->OnHeldChanged();
      }) {
  for (const Phase phase : {Phase::kDraining, Phase::kEnding, Phase::kClosing}) {
    phases_[static_cast<size_t>(phase) - 1] =
        std::make_unique<Notice>([this, phase](bool) { OnPhase(phase); });
  }
}

Worker::~Worker() {
  if (shut_down_) return;
  context_.queue->Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (context_.queue->Next(&tag, &ok)) {
  }
}

void Worker::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Worker::Join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::Tell(Phase phase) { Set(*phases_[static_cast<size_t>(phase) - 1]); }

void Worker::TellStoreFailure() { Set(store_failure_); }

void Worker::TellHeldChanged() {
  if (!held_change_told_.exchange(true)) Set(held_changed_);
}

void Worker::Set(Notice& notice) {
  BringBack(notice.alarm, context_.queue.get(), notice.completion);
}

// Brings a new phase to the calls, on their thread.
void Worker::OnPhase(Phase phase) {
  if (phase == Phase::kClosing) closing_ = true;
  for (LongCall* call : context_.long_calls) {  // None is deleted by what it does here.
    if (phase == Phase::kDraining) call->BeginDrain();
    if (phase == Phase::kEnding) call->End();
  }
}

// Whatever has come is taken in first, then answered, then one piece of prefill, then waiting;
// where more comes than can be taken in, all of that goes on all the same. Before prefill the queue
// is looked at twice: a write that was done at once has left a kick in it, which gRPC takes for a
// reason not to look at the sockets the first time.
void Worker::Run() {
  pthread_setname_np(pthread_self(), "engram-serve");
  size_t taken = 0;  // events in a row
  while (true) {
    if (taken < kMostEvents && TakeEvent()) {
      ++taken;
    } else if (std::exchange(taken, 0) == kMostEvents) {
      while (context_.answers.GiveOne()) {
      }
      context_.prefill.GiveOne();
    } else if (!context_.answers.GiveOne() &&
               !(context_.prefill.waiting() && (TakeEvent() || context_.prefill.GiveOne())) &&
               !WaitForEvent()) {
      return;
    }
  }
}

bool Worker::TakeEvent() {
  Event event;
  if (!Next(kNoWait, event)) return false;
  Handle(event);
  return true;
}

bool Worker::WaitForEvent() {
  Event event;
  const int64_t begun_ns = absl::GetCurrentTimeNanos();
  if (!SpinUntil(context_.options.spin, [&] { return Next(kNoWait, event); }) &&
      !Next(kForEver, event)) {
    return false;
  }
  const int64_t now_ns = absl::GetCurrentTimeNanos();
  if (now_ns - begun_ns > kIdleNs) context_.backlog.OnIdle(now_ns);
  Handle(event);
  return true;
}

bool Worker::Next(gpr_timespec until, Event& event) {
  return context_.queue->AsyncNext(&event.tag, &event.ok, until) ==
         grpc::CompletionQueue::GOT_EVENT;
}

void Worker::Handle(const Event& event) {
  Completion::Of(event.tag).Run(event.ok);
  if (closing_ && context_.calls == 0 && !shut_down_) {
    shut_down_ = true;
    context_.queue->Shutdown();
  }
}

}  // namespace engram

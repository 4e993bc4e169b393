#include "tests/bench/ask_client.h"

#include <map>

#include "proto/base/mutex.h"

namespace engram::bench {
namespace {

class Asking {
 public:
  Asking(Client& client, uint32_t layer, LookupPriority priority, BatchRun& run)
      : client_(client), layer_(layer), priority_(priority), run_(run) {}

  absl::Status Run() {
    MutexLock lock(&mutex_);
    SubmitAll();
    while (run_.in_flight() > 0 && status_.ok()) done_.Wait(&mutex_);
    // Tickets that are left are dropped with this object, once nothing touches their buffers.
    return status_;
  }

 private:
  void SubmitAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (BatchRun::Batch* batch = status_.ok() ? run_.Next() : nullptr) {
      const LookupOptions options{
          .priority = priority_,
          .on_done = [this, batch](const absl::Status& status) { OnDone(*batch, status); }};
      absl::StatusOr<Ticket> ticket =
          client_.SubmitRows({{layer_, batch->ids, batch->out}}, options);
      status_.Update(ticket.status());
      if (ticket.ok()) tickets_[batch] = *std::move(ticket);
    }
  }

  void OnDone(BatchRun::Batch& batch, const absl::Status& status) {
    MutexLock lock(&mutex_);
    status_.Update(status);
    run_.Done(batch);
    SubmitAll();
    if (run_.in_flight() == 0 || !status_.ok()) done_.NotifyAll();
  }

  Client& client_;
  const uint32_t layer_;
  const LookupPriority priority_;
  Mutex mutex_;
  CondVar done_;
  BatchRun& run_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::map<BatchRun::Batch*, Ticket> tickets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status AskClient(Client& client, uint32_t layer, LookupPriority priority, BatchRun& run) {
  return Asking(client, layer, priority, run).Run();
}

}  // namespace engram::bench

#include "client/resolver.h"

#include <pthread.h>

#include <utility>

namespace engram {

Resolver::~Resolver() {
  std::thread thread;
  bool leave = false;
  {
    MutexLock lock(&shared_->mutex);
    shared_->closing = true;
    shared_->changed.NotifyAll();
    leave = shared_->looking_up;
    thread = std::move(thread_);
  }
  if (!thread.joinable()) return;
  if (leave) {
    thread.detach();
  } else {
    thread.join();
  }
}

std::shared_ptr<const Resolution> Resolver::Resolve(const std::string& address,
                                                    std::function<void()> then) {
  auto resolution = std::make_shared<Resolution>();
  Resolution::Addresses at_once = shared_->look_up(address, /*numeric_only=*/true);
  if (!absl::IsNotFound(at_once.status())) {
    resolution->at_once_ = true;
    resolution->Finish(std::move(at_once));
    return resolution;
  }
  MutexLock lock(&shared_->mutex);
  shared_->jobs.push_back({address, resolution, std::move(then)});
  if (!thread_.joinable()) thread_ = std::thread([shared = shared_] { Run(*shared); });
  shared_->changed.NotifyAll();
  return resolution;
}

void Resolver::Run(Shared& shared) {
  pthread_setname_np(pthread_self(), "engram-dns");
  while (true) {
    Job job;
    {
      MutexLock lock(&shared.mutex);
      while (shared.jobs.empty() && !shared.closing) shared.changed.Wait(&shared.mutex);
      if (shared.closing) return;
      job = std::move(shared.jobs.front());
      shared.jobs.pop_front();
      shared.looking_up = true;
    }
    Resolution::Addresses found = shared.look_up(job.address, /*numeric_only=*/false);
    {
      MutexLock lock(&shared.mutex);
      if (shared.closing) return;  // left behind: what `then` refers to may be gone
      shared.looking_up = false;   // from here on the end waits
    }
    job.resolution->Finish(std::move(found));
    job.then();
  }
}

}  // namespace engram

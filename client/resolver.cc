#include "client/resolver.h"

#include <pthread.h>

#include <utility>

namespace engram {

Resolver::~Resolver() {
  std::thread thread;
  {
    MutexLock lock(&mutex_);
    closing_ = true;
    changed_.NotifyAll();
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

std::shared_ptr<const Resolution> Resolver::Resolve(const std::string& address,
                                                    std::function<void()> then) {
  auto resolution = std::make_shared<Resolution>();
  Resolution::Addresses at_once = look_up_(address, /*numeric_only=*/true);
  if (!absl::IsNotFound(at_once.status())) {
    resolution->at_once_ = true;
    resolution->Finish(std::move(at_once));
    return resolution;
  }
  MutexLock lock(&mutex_);
  jobs_.push_back({address, resolution, std::move(then)});
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.NotifyAll();
  return resolution;
}

void Resolver::Run() {
  pthread_setname_np(pthread_self(), "engram-dns");
  while (true) {
    Job job;
    {
      MutexLock lock(&mutex_);
      while (jobs_.empty() && !closing_) changed_.Wait(&mutex_);
      if (closing_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.resolution->Finish(look_up_(job.address, /*numeric_only=*/false));
    job.then();
  }
}

}  // namespace engram

// Looking up host names without standing still.
#ifndef ENGRAM_CLIENT_RESOLVER_H_
#define ENGRAM_CLIENT_RESOLVER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "client/socket.h"
#include "proto/base/mutex.h"

namespace engram {

// One lookup. Any thread.
class Resolution {
 public:
  using Addresses = absl::StatusOr<std::vector<SocketAddress>>;

  bool done() const {
    MutexLock lock(&mutex_);
    return done_;
  }
  // Nothing was looked up: the address says it all.
  bool at_once() const { return at_once_; }
  // Once done.
  Addresses addresses() const {
    MutexLock lock(&mutex_);
    return addresses_;
  }

 private:
  friend class Resolver;
  void Finish(Addresses addresses) {
    MutexLock lock(&mutex_);
    addresses_ = std::move(addresses);
    done_ = true;
  }

  bool at_once_ = false;  // const once the resolver has returned it
  mutable Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  Addresses addresses_ ABSL_GUARDED_BY(mutex_) = absl::UnknownError("not done");
};

// Numeric addresses and unix sockets are done at once. Names are looked up by getaddrinfo, one
// after the other, on a thread "engram-dns" that is started for the first of them. Nobody can end
// getaddrinfo before its time, which is seconds where no name server answers: a resolver that ends
// leaves that thread behind, which touches nothing of the resolver's owner any more.
class Resolver {
 public:
  using LookUp =
      std::function<Resolution::Addresses(const std::string& address, bool numeric_only)>;

  // `look_up`: ResolveAddress, or what a test puts in its place; it may run for longer than the
  // resolver lives.
  explicit Resolver(LookUp look_up = ResolveAddress)
      : shared_(std::make_shared<Shared>(std::move(look_up))) {}
  // Does not wait for a lookup under way. No `then` runs afterwards.
  ~Resolver();

  // `then` is called on the resolver's thread when it is done; not where it is done at once.
  std::shared_ptr<const Resolution> Resolve(const std::string& address, std::function<void()> then);

 private:
  struct Job {
    std::string address;
    std::shared_ptr<Resolution> resolution;
    std::function<void()> then;
  };

  // With the thread, which may live longer.
  struct Shared {
    explicit Shared(LookUp its_look_up) : look_up(std::move(its_look_up)) {}

    const LookUp look_up;
    Mutex mutex;
    CondVar changed;
    std::deque<Job> jobs ABSL_GUARDED_BY(mutex);
    bool looking_up ABSL_GUARDED_BY(mutex) = false;
    bool closing ABSL_GUARDED_BY(mutex) = false;
  };

  static void Run(Shared& shared);

  const std::shared_ptr<Shared> shared_;
  std::thread thread_ ABSL_GUARDED_BY(shared_->mutex);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_RESOLVER_H_

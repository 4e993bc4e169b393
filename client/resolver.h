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
// after the other, on a thread "engram-dns" that is started for the first of them.
class Resolver {
 public:
  using LookUp =
      std::function<Resolution::Addresses(const std::string& address, bool numeric_only)>;

  // `look_up`: ResolveAddress, or what a test puts in its place.
  explicit Resolver(LookUp look_up = ResolveAddress) : look_up_(std::move(look_up)) {}
  // Waits for the lookup under way, which may take seconds.
  ~Resolver();

  // `then` is called on the resolver's thread when it is done; not where it is done at once.
  std::shared_ptr<const Resolution> Resolve(const std::string& address, std::function<void()> then);

 private:
  struct Job {
    std::string address;
    std::shared_ptr<Resolution> resolution;
    std::function<void()> then;
  };

  void Run();

  const LookUp look_up_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_RESOLVER_H_

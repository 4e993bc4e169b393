// The servers' names -> the addresses behind them, followed while they change.
#ifndef ENGRAM_CLIENT_SERVER_DIRECTORY_H_
#define ENGRAM_CLIENT_SERVER_DIRECTORY_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/resolver.h"
#include "client/socket.h"

namespace engram {

// One address of one name.
struct Endpoint {
  std::string name;   // as the caller gave it
  std::string label;  // the name, with the address where it has several
  SocketAddress address;
};

// A name that stands for several addresses (a headless Service, say) is as many servers. Names are
// looked up again every `refresh`; what a lookup that fails had found before stays. An address is
// given up when two lookups in a row do not find it: where all change at once, the new servers are
// connected to by then. Not thread-safe.
class ServerDirectory {
 public:
  // Borrows `resolver`. `wake` is called on another thread when Tick has something to do.
  ServerDirectory(Resolver* resolver, absl::Duration refresh, std::function<void()> wake)
      : resolver_(resolver), refresh_(refresh), wake_(std::move(wake)) {}

  // The names from now on; what is known of those that stay is kept. The others are given up after
  // `refresh`, when those in their place are connected to.
  void SetNames(const std::vector<std::string>& names);

  // True: endpoints() is not what it was. To be called at next_tick() and when `wake` was.
  bool Tick(absl::Time now);
  absl::Time next_tick() const;

  // In the order of the names; then of those that are about to be given up.
  std::vector<Endpoint> endpoints() const;
  // Names that stand for nothing, and why.
  std::vector<std::pair<std::string, absl::Status>> unresolved() const;
  // Every name was looked up once, well or badly.
  bool all_tried() const;

 private:
  struct Name {
    std::string name;
    std::vector<SocketAddress> addresses;  // of `found`, and of the lookup before that
    std::vector<SocketAddress> found;      // by the last lookup that did not fail
    absl::Status status;
    std::shared_ptr<const Resolution> lookup;  // under way
    absl::Time next = absl::InfinitePast();    // lookup
    bool tried = false;
  };

  bool Take(Name& name, absl::Time now);

  Resolver* const resolver_;
  const absl::Duration refresh_;
  const std::function<void()> wake_;
  std::vector<Name> names_;
  std::vector<Name> leaving_;           // not looked up any more
  std::optional<absl::Time> leave_at_;  // set by the first Tick that finds some
  bool changed_ = false;                // by SetNames
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_SERVER_DIRECTORY_H_

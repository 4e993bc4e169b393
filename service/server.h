// A memory server: one table shard behind gRPC.
#ifndef ENGRAM_SERVICE_SERVER_H_
#define ENGRAM_SERVICE_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/health_port.h"
#include "service/metrics.h"
#include "service/security.h"
#include "service/server_options.h"
#include "service/slow_requests.h"
#include "storage/generations.h"
#include "storage/table.h"

namespace engram {

// Threads "engram-serve": each owns a completion queue, polls it and does all the work of its
// calls, gathers included. Nothing is shared between them but the read-only table and the answer
// pool.
//
// When the table's store fails (StoreState) the server stays up, unhealthy, and answers every
// gather with DATA_LOSS.
class Server {
 public:
  // Listens and serves until Stop. InvalidArgument: the options. Unavailable: an address cannot be
  // listened on (it is named; in use, or not ours). Codes as Security::Create.
  // `generations`: of the table, outlives the server; null: the table alone.
  // `health_port`: is ready while lookups are served; null: one at options.health, if that is set.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      std::shared_ptr<const Table> table, const ServerOptions& options,
      Generations* generations = nullptr, std::shared_ptr<HealthPort> health_port = nullptr);
  // Stop with no grace.
  ~Server();

  const std::string& address() const;  // with the port that was picked
  std::string health_address() const;  // empty: none, or stopped

  bool draining() const;        // BeginDrain or Stop has been called
  ServerCounts counts() const;  // of all threads; any thread
  SecurityCounts security_counts() const;
  // Of the last two minutes, the longest first; any thread.
  std::vector<SlowRequest> slow_requests() const;

  // From here on unhealthy, and new requests are refused with UNAVAILABLE; every stream is told;
  // what was taken is answered. Any thread; does not wait.
  void BeginDrain();

  // BeginDrain, `notice` for clients to move away, then ends streams as soon as they are answered,
  // at the latest after `grace`. Returns when nothing runs any more. Once.
  void Stop(absl::Duration notice, absl::Duration grace);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_SERVER_H_

// What one client may have of a server at a time, over all of its streams.
#ifndef ENGRAM_SERVICE_CLIENT_LIMITS_H_
#define ENGRAM_SERVICE_CLIENT_LIMITS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/mutex.h"

namespace engram {

// A client is who its certificate says, or the host that it calls from. Any thread.
class ClientLimits {
 public:
  // 0: no bound.
  ClientLimits(uint64_t streams, uint64_t rows_in_flight)
      : max_streams_(streams), max_rows_(rows_in_flight) {}

  // One stream of a client, as long as it lives.
  class Stream {
   public:
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // A request of so many rows comes. ResourceExhausted: then it does not count.
    absl::Status Take(uint64_t rows);
    // It is over, well or badly.
    void GiveBack(uint64_t rows);

   private:
    friend class ClientLimits;
    struct Client {
      uint64_t streams = 0;  // ClientLimits::mutex_
      std::atomic<uint64_t> rows{0};
    };
    Stream(ClientLimits& limits, std::string key, std::shared_ptr<Client> client)
        : limits_(limits), key_(std::move(key)), client_(std::move(client)) {}

    ClientLimits& limits_;
    const std::string key_;
    const std::shared_ptr<Client> client_;
  };

  // null: there are no bounds. ResourceExhausted: the client has as many as it may.
  absl::StatusOr<std::unique_ptr<Stream>> Open(std::string client);

 private:
  const uint64_t max_streams_, max_rows_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Stream::Client>> clients_
      ABSL_GUARDED_BY(mutex_);
};

// "ipv4:10.0.0.1" of gRPC's "ipv4:10.0.0.1:1234".
absl::string_view HostOfPeer(absl::string_view peer);

}  // namespace engram

#endif  // ENGRAM_SERVICE_CLIENT_LIMITS_H_

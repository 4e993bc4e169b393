#ifndef ENGRAM_SERVICE_SERVER_OPTIONS_H_
#define ENGRAM_SERVICE_SERVER_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/security_options.h"

namespace engram {

struct ServerOptions {
  // Where to listen: "host:port" (port 0 picks one) or "unix:PATH".
  std::string listen = "127.0.0.1:50051";
  // A second port for health checks alone; empty: none (the first one answers them, too).
  std::string health;

  SecurityOptions security;  // of `listen`; `health` is plaintext, for anybody

  // Limits: what one peer may ask for.

  uint64_t max_rows_per_request = 65536;
  uint64_t max_request_bytes = 4 << 20;    // must hold max_rows_per_request 64-bit ids
  uint64_t max_requests_in_flight = 1024;  // per stream; more get RESOURCE_EXHAUSTED

  // Of one client (who its certificate says, else the host that it calls from) over all of its
  // streams; more get RESOURCE_EXHAUSTED. 0: no bound.
  uint64_t max_streams_per_client = 0;
  uint64_t max_rows_in_flight_per_client = 0;

  // A line on a request that was answered by an error; from any thread; may be null.
  std::function<void(absl::string_view)> log = nullptr;

  // Speed.

  uint32_t threads = 0;                        // each polls and gathers; 0: one per core
  absl::Duration spin = absl::ZeroDuration();  // how long a thread polls before it sleeps

  // InvalidArgument naming the option. Files are not read.
  absl::Status Validate() const;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_SERVER_OPTIONS_H_

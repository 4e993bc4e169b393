// TLS over a non-blocking socket.
#ifndef ENGRAM_CLIENT_TLS_STREAM_H_
#define ENGRAM_CLIENT_TLS_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "client/credentials.h"

namespace engram {

// The handshake happens within the first reads and writes. Not thread-safe.
class TlsStream {
 public:
  // Borrows the descriptor of a connected socket.
  TlsStream(TlsSession session, int fd);

  // As Socket's; also Unauthenticated: the server is not who it should be, or refuses us.
  absl::StatusOr<size_t> Read(std::span<uint8_t> into);
  absl::StatusOr<size_t> Write(std::span<const uint8_t> bytes);

  // Read has left something that the descriptor's being readable does not tell of.
  bool pending() const { return pending_; }
  // Write cannot go on before something was read, whether or not the descriptor is writable.
  bool waits_for_input() const { return waits_for_input_; }

 private:
  absl::Status Failure(int result, int error_number) const;

  const TlsSession session_;
  bool pending_ = false;
  bool waits_for_input_ = false;
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_TLS_STREAM_H_

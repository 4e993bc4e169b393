// Calls with one request and one response.
#ifndef ENGRAM_CLIENT_UNARY_CALL_H_
#define ENGRAM_CLIENT_UNARY_CALL_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/credentials.h"
#include "client/http2_connection.h"

namespace engram {

// One call on a connection that its owner drives.
class UnaryCall final : public Http2Connection::Call {
 public:
  using Done = std::function<void(absl::StatusOr<std::string> response)>;

  // `done` is called once, with the response's bytes or why there is none: the server's status;
  // InvalidArgument: more than one message, or one that is cut off or over `max_bytes`.
  UnaryCall(size_t max_bytes, Done done) : max_bytes_(max_bytes), done_(std::move(done)) {}

  // Internal: as Http2Connection::StartCall.
  absl::Status Start(Http2Connection& connection, absl::string_view path, absl::string_view request,
                     absl::Duration timeout);

  absl::Status OnBytes(std::span<const uint8_t> bytes) override;
  void OnEnd(const absl::Status& status) override;

 private:
  const size_t max_bytes_;
  const Done done_;
  std::string received_;
};

struct ServerCall {
  std::string address;
  std::string path;  // "/package.Service/Method"
  std::string request;
  size_t max_response_bytes = 0;
};

// Calls servers, each over a connection of its own, all at once, and waits up to `timeout`. The
// responses' bytes, or why there are none, in the order of `calls`. Any thread; blocks.
std::vector<absl::StatusOr<std::string>> CallServers(const std::vector<ServerCall>& calls,
                                                     CredentialSource& credentials,
                                                     absl::Duration timeout);
// The same; where the credentials cannot be used, that is every call's result.
std::vector<absl::StatusOr<std::string>> CallServers(const std::vector<ServerCall>& calls,
                                                     const Credentials& credentials,
                                                     absl::Duration timeout);

}  // namespace engram

#endif  // ENGRAM_CLIENT_UNARY_CALL_H_

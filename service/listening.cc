#include "service/listening.h"

#include <grpc/grpc.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {

// gRPC stays up for the life of the process. Taking it down with the last server waits for threads
// of its own, now and then for 10 seconds, which a server that was told to end does not have.
void PrepareGrpc() {
  [[maybe_unused]] static const bool kept = [] {
    grpc_init();
    grpc::EnableDefaultHealthCheckService(false);
    return true;
  }();
}

absl::StatusOr<std::string> ListenedAddress(const std::unique_ptr<grpc::Server>& server,
                                            const std::string& asked, int port) {
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", asked, ": the address is in use, not this host's, or malformed"));
  }
  if (absl::StartsWith(asked, "unix:")) return asked;
  return absl::StrCat(asked.substr(0, asked.rfind(':')), ":", port);
}

}  // namespace engram

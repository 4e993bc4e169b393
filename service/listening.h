// What the ports of a server have in common.
#ifndef ENGRAM_SERVICE_LISTENING_H_
#define ENGRAM_SERVICE_LISTENING_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace engram {

// Before the first grpc::ServerBuilder; any number of times.
void PrepareGrpc();

// Where a server listens: `asked` ("host:port" or "unix:PATH") with the `port` that was picked.
// Unavailable, naming `asked`: it does not (null, or port 0).
absl::StatusOr<std::string> ListenedAddress(const std::unique_ptr<grpc::Server>& server,
                                            const std::string& asked, int port);

}  // namespace engram

#endif  // ENGRAM_SERVICE_LISTENING_H_

// absl::Status <-> grpc::Status: the codes are the same numbers.
#ifndef ENGRAM_PROTO_GRPC_STATUS_H_
#define ENGRAM_PROTO_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace engram {

inline grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

// `context` is put before the message ("127.0.0.1:50051: ...").
inline absl::Status FromGrpcStatus(const grpc::Status& status, absl::string_view context) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(context, ": ", status.error_message()));
}

}  // namespace engram

#endif  // ENGRAM_PROTO_GRPC_STATUS_H_

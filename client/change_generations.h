// What an operator has servers do with their generations: publish, activate, retire.
#ifndef ENGRAM_CLIENT_CHANGE_GENERATIONS_H_
#define ENGRAM_CLIENT_CHANGE_GENERATIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/credentials.h"
#include "proto/sha256.h"

namespace engram {

// A piece of the delta of one server's rows; fields as engram.v1.PublishRequest has them.
struct PublishPiece {
  Sha256 target{};
  absl::string_view header;
  uint64_t first = 0;
  absl::string_view records;
  bool last = false;
};

// Blocking. Whether the server holds the target now, so that nothing more need be sent. The
// server's status, or why the call failed.
absl::StatusOr<bool> PublishTo(const std::string& address, const PublishPiece& piece,
                               absl::Duration timeout, const Credentials& credentials = {});

// Blocking, all servers at once; what became of each, in the order of `addresses`.
std::vector<absl::Status> ActivateOn(const std::vector<std::string>& addresses,
                                     const Sha256& digest, absl::Duration timeout,
                                     const Credentials& credentials = {});
std::vector<absl::Status> RetireOn(const std::vector<std::string>& addresses, const Sha256& digest,
                                   absl::Duration timeout, const Credentials& credentials = {});

}  // namespace engram

#endif  // ENGRAM_CLIENT_CHANGE_GENERATIONS_H_

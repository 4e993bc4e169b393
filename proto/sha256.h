#ifndef ENGRAM_PROTO_SHA256_H_
#define ENGRAM_PROTO_SHA256_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

using Sha256 = std::array<uint8_t, 32>;

Sha256 Sha256Of(absl::string_view bytes);

// 64 lower-case hex digits, and back. InvalidArgument unless exactly that many hex digits.
std::string ToHex(const Sha256& hash);
absl::StatusOr<Sha256> Sha256FromHex(absl::string_view hex);
// Of a message's field. InvalidArgument unless 32 bytes.
absl::StatusOr<Sha256> Sha256FromBytes(absl::string_view bytes);

}  // namespace engram

#endif  // ENGRAM_PROTO_SHA256_H_

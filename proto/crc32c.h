#ifndef ENGRAM_PROTO_CRC32C_H_
#define ENGRAM_PROTO_CRC32C_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace engram {

// CRC32C (Castagnoli, RFC 3720): the checksum of a row. "123456789" gives 0xE3069283.
uint32_t Crc32c(const void* bytes, size_t size);
inline uint32_t Crc32c(absl::string_view bytes) { return Crc32c(bytes.data(), bytes.size()); }

}  // namespace engram

#endif  // ENGRAM_PROTO_CRC32C_H_

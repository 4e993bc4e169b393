// Writes protobuf's wire format to memory that is large enough; each returns where it has ended.
#ifndef ENGRAM_PROTO_BASE_PROTO_WRITER_H_
#define ENGRAM_PROTO_BASE_PROTO_WRITER_H_

#include <cstdint>

namespace engram {

inline uint8_t* WriteVarint(uint64_t value, uint8_t* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// A varint field: at most 15 bytes.
inline uint8_t* WriteUint(uint32_t field, uint64_t value, uint8_t* out) {
  return WriteVarint(value, WriteVarint(uint64_t{field} << 3, out));
}

// What stands before the bytes of a string, message or packed field.
inline uint8_t* WriteLengthTag(uint32_t field, uint64_t bytes, uint8_t* out) {
  return WriteVarint(bytes, WriteVarint(uint64_t{field} << 3 | 2, out));
}

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_PROTO_WRITER_H_

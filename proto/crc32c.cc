#include "proto/crc32c.h"

#include <isa-l.h>

namespace engram {

uint32_t Crc32c(const void* bytes, size_t size) {
  // ISA-L takes a mutable pointer but only reads; it leaves both inversions to the caller.
  auto* data = const_cast<unsigned char*>(static_cast<const unsigned char*>(bytes));
  return ~crc32_iscsi(data, static_cast<int>(size), ~0u);
}

}  // namespace engram

#include "client/stream_copy.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace engram {

#if defined(__x86_64__)
namespace {

constexpr size_t kLine = 64;

// Each copies whole lines to aligned places.
void StreamSse2(uint8_t* to, const uint8_t* from, size_t lines) {
  for (const uint8_t* const end = to + lines * kLine; to != end; to += 16, from += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
}

ENGRAM_TARGET_AVX2 void StreamAvx2(uint8_t* to, const uint8_t* from, size_t lines) {
  for (const uint8_t* const end = to + lines * kLine; to != end; to += 32, from += 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
}

ENGRAM_TARGET_AVX512 void StreamAvx512(uint8_t* to, const uint8_t* from, size_t lines) {
  for (const uint8_t* const end = to + lines * kLine; to != end; to += 64, from += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
  }
}

}  // namespace

void StreamCopy(uint8_t* to, const uint8_t* from, size_t bytes, Isa isa) {
  // Partial lines at either end are shared with what lies beside: they go through the cache.
  const size_t head = std::min(bytes, (kLine - reinterpret_cast<uintptr_t>(to)) % kLine);
  std::memcpy(to, from, head);
  const size_t lines = (bytes - head) / kLine;
  switch (isa) {
    case Isa::kPortable:
      StreamSse2(to + head, from + head, lines);
      break;
    case Isa::kAvx2:
      StreamAvx2(to + head, from + head, lines);
      break;
    case Isa::kAvx512:
      StreamAvx512(to + head, from + head, lines);
      break;
  }
  const size_t done = head + lines * kLine;
  std::memcpy(to + done, from + done, bytes - done);
}

void StreamFence() { _mm_sfence(); }

#else

void StreamCopy(uint8_t* to, const uint8_t* from, size_t bytes, Isa) {
  std::memcpy(to, from, bytes);
}

void StreamFence() {}

#endif

}  // namespace engram

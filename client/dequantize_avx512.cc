#if defined(__x86_64__)
#include <immintrin.h>

#include "client/dequantize_blocks.h"

namespace engram {
namespace {

// High and low bytes of every magnitude's bf16 word, at scale kLowScale. NaN is such that adding to
// it, saturating, leaves a NaN.
struct alignas(64) WordBytes {
  uint8_t high[128];
  uint8_t low[128];
};

constexpr WordBytes MakeWordBytes() {
  WordBytes bytes{};
  for (unsigned magnitude = 1; magnitude < 128; ++magnitude) {
    unsigned field = (magnitude >> 3) + 4, fraction = magnitude & 7;
    if (magnitude < 8) {
      field = 5;
      for (; fraction < 8; fraction <<= 1) --field;
      fraction &= 7;
    }
    const unsigned word = magnitude == 127 ? 0xffc0 : field << 7 | fraction << 4;
    bytes.high[magnitude] = static_cast<uint8_t>(word >> 8);
    bytes.low[magnitude] = static_cast<uint8_t>(word);
  }
  return bytes;
}
constexpr WordBytes kWordBytes = MakeWordBytes();

struct Tables {
  __m512i high[2];
  __m512i low[2];
};

ENGRAM_TARGET_VBMI [[gnu::always_inline]] inline Tables LoadTables() {
  return {{_mm512_load_si512(kWordBytes.high), _mm512_load_si512(kWordBytes.high + 64)},
          {_mm512_load_si512(kWordBytes.low), _mm512_load_si512(kWordBytes.low + 64)}};
}

struct WordPair {
  __m512i low;   // of the low eight bytes of every lane of 16
  __m512i high;  // of the high eight
};

// Adds to words that are not zero.
ENGRAM_TARGET_VBMI [[gnu::always_inline]] inline __m512i AddScale(__m512i words, uint8_t scale) {
  const __m512i add = _mm512_set1_epi16(static_cast<int16_t>((scale - kLowScale) << 7));
  const __mmask32 not_zero = _mm512_test_epi16_mask(words, _mm512_set1_epi16(0x7fff));
  return _mm512_mask_adds_epu16(words, not_zero, words, add);
}

ENGRAM_TARGET_VBMI [[gnu::always_inline]] inline WordPair Words(const Tables& tables,
                                                                __m512i values,
                                                                const uint8_t* scales,
                                                                size_t second) {
  constexpr int kSelectSign = 0xf8;  // a | (b & c)
  const __m512i sign = _mm512_set1_epi8(-128);
  const __m512i high = _mm512_ternarylogic_epi32(
      _mm512_permutex2var_epi8(tables.high[0], values, tables.high[1]), values, sign, kSelectSign);
  const __m512i low = _mm512_permutex2var_epi8(tables.low[0], values, tables.low[1]);
  return {AddScale(_mm512_unpacklo_epi8(low, high), scales[0]),
          AddScale(_mm512_unpackhi_epi8(low, high), scales[second])};
}

// Unpacking works in lanes of 16 bytes: values are permuted first so that results come in their
// order, the first scale's in the low halves of lanes. kBlocks is 1 where 32 values are left.
template <size_t kBlocks>
ENGRAM_TARGET_VBMI [[gnu::always_inline]] inline void Store(const Tables& tables, __m512i values,
                                                            const uint8_t* scales, uint8_t* out,
                                                            uint16_t /*bf16*/) {
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const WordPair words =
      Words(tables, _mm512_permutexvar_epi64(order, values), scales, kBlocks - 1);
  _mm512_storeu_si512(out, words.low);
  if constexpr (kBlocks == 2) _mm512_storeu_si512(out + 64, words.high);
}

template <size_t kBlocks>
ENGRAM_TARGET_VBMI [[gnu::always_inline]] inline void Store(const Tables& tables, __m512i values,
                                                            const uint8_t* scales, uint8_t* out,
                                                            uint32_t /*f32*/) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const WordPair words =
      Words(tables, _mm512_permutexvar_epi32(order, values), scales, kBlocks - 1);
  const __m512i zero = _mm512_setzero_si512();
  _mm512_storeu_si512(out, _mm512_unpacklo_epi16(zero, words.low));
  _mm512_storeu_si512(out + 64, _mm512_unpackhi_epi16(zero, words.low));
  if constexpr (kBlocks == 2) {
    _mm512_storeu_si512(out + 128, _mm512_unpacklo_epi16(zero, words.high));
    _mm512_storeu_si512(out + 192, _mm512_unpackhi_epi16(zero, words.high));
  }
}

}  // namespace

template <typename Out>
ENGRAM_TARGET_VBMI bool ConvertBlocksVbmi(const Fp8Rows& rows, uint8_t* out) {
  const Tables tables = LoadTables();
  const size_t blocks = rows.row_values / kFp8Block;
  bool plain = true;
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* const values = rows.values + row * rows.value_stride;
    const uint8_t* const scales = rows.scales + row * rows.scale_stride;
    uint8_t* const to = out + row * rows.row_values * sizeof(Out);
    size_t block = 0;
    for (; block + 2 <= blocks; block += 2) {
      plain &= IsPlainScale(scales[block]) & IsPlainScale(scales[block + 1]);
      const __m512i at = _mm512_loadu_si512(values + block * kFp8Block);
      Store<2>(tables, at, scales + block, to + block * kFp8Block * sizeof(Out), Out{});
    }
    if (block < blocks) {
      plain &= IsPlainScale(scales[block]);
      const __m512i at = _mm512_maskz_loadu_epi8(0xffffffff, values + block * kFp8Block);
      Store<1>(tables, at, scales + block, to + block * kFp8Block * sizeof(Out), Out{});
    }
  }
  return plain;
}

template bool ConvertBlocksVbmi<uint16_t>(const Fp8Rows&, uint8_t*);
template bool ConvertBlocksVbmi<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram
#endif

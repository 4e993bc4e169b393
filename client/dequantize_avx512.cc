#if defined(__x86_64__)
#include <immintrin.h>

#include <array>

#include "client/dequantize_fp8.h"

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
ENGRAM_TARGET_VBMI void Fp8RowsAvx512Vbmi(const Fp8Rows& rows, uint8_t* out) {
  constexpr size_t kPair = 2 * kFp8Block;
  const Tables tables = LoadTables();
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* values = rows.values + row * rows.value_stride;
    const uint8_t* scale = rows.scales + row * rows.scale_stride;
    size_t left = rows.row_values;
    for (; left >= kPair; left -= kPair, values += kPair, scale += 2) {
      if (IsPlainScale(scale[0]) && IsPlainScale(scale[1])) {
        Store<2>(tables, _mm512_loadu_si512(values), scale, out, Out{});
      } else {
        CarefulBlock<Out>(values, scale[0], kFp8Block, out);
        CarefulBlock<Out>(values + kFp8Block, scale[1], kFp8Block, out + kFp8Block * sizeof(Out));
      }
      out += kPair * sizeof(Out);
    }
    if (left >= kFp8Block && IsPlainScale(*scale)) {
      const __m512i half = _mm512_maskz_loadu_epi8(0xffffffff, values);
      Store<1>(tables, half, scale, out, Out{});
      left -= kFp8Block, values += kFp8Block, ++scale;
      out += kFp8Block * sizeof(Out);
    }
    while (left > 0) {
      const size_t now = left < kFp8Block ? left : kFp8Block;
      CarefulBlock<Out>(values, *scale++, now, out);
      left -= now, values += now;
      out += now * sizeof(Out);
    }
  }
}

template void Fp8RowsAvx512Vbmi<uint16_t>(const Fp8Rows&, uint8_t*);
template void Fp8RowsAvx512Vbmi<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram
#endif

#if defined(__x86_64__)
#include <immintrin.h>

#include "client/dequantize_blocks.h"

namespace engram {
namespace {

// 16 bytes in both lanes, for shuffles by the low four bits of an index (bit 7 of it: zero).
#define ENGRAM_TABLE(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)

struct WordPair {
  __m256i low;   // of the low eight bytes of either lane
  __m256i high;  // of the high eight
};

// 32 values of one scale to bf16 words; `add` is (scale - kLowScale) << 7, and the words' exponent
// fields are 4 above e4m3's before it comes to them.
ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline WordPair NormalWords(__m256i values, __m256i add) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i bits = _mm256_set1_epi16(static_cast<int16_t>(0x87f0));  // sign and magnitude
  const __m256i all = _mm256_add_epi16(add, _mm256_set1_epi16(4 << 7));
  const __m256i low = _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, values), 4);
  const __m256i high = _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, values), 4);
  return {_mm256_add_epi16(_mm256_and_si256(low, bits), all),
          _mm256_add_epi16(_mm256_and_si256(high, bits), all)};
}

// Where there may be subnormals, zeros and NaNs: they are taken for normal numbers, then corrected
// by tables that hold nothing for all others. `classes` says which they are: NaN 0, zero 1,
// subnormals 2 to 8 (magnitude + 1 modulo 128).
ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline WordPair AnyWords(__m256i values, __m256i classes,
                                                                   __m256i add) {
  // High bytes by a value's high four bits: the sign, the exponent's upper three bits plus two.
  const __m256i high_bytes = ENGRAM_TABLE(2, 3, 4, 5, 6, 7, 8, 9,  //
                                          -126, -125, -124, -123, -122, -121, -120, -119);
  // By class + 7: what turns the bytes of (field 4, fraction m / 8) into those of m x 2^-9, or of a
  // NaN.
  const __m256i correct_high = ENGRAM_TABLE(0, 0, 0, 0, 0, 0, 0,  //
                                            0x76, 2, 3, 3, 3, 0, 0, 0, 0);
  const __m256i correct_low = ENGRAM_TABLE(0, 0, 0, 0, 0, 0, 0,  //
                                           0, 0, 0x10, 0x20 ^ -128, 0x30 ^ -64, 0x40, 0x50 ^ 0x20,
                                           0x60 ^ 0x40, 0x70 ^ 0x60);
  const __m256i index = _mm256_adds_epu8(classes, _mm256_set1_epi8(0x77));
  const __m256i high_index = _mm256_and_si256(_mm256_srli_epi16(values, 4), _mm256_set1_epi8(0x0f));
  const __m256i low_bits =
      _mm256_and_si256(_mm256_slli_epi16(values, 4), _mm256_set1_epi8(static_cast<char>(0xf0)));
  const __m256i high = _mm256_xor_si256(_mm256_shuffle_epi8(high_bytes, high_index),
                                        _mm256_shuffle_epi8(correct_high, index));
  const __m256i low = _mm256_xor_si256(low_bits, _mm256_shuffle_epi8(correct_low, index));
  const __m256i adds = _mm256_cmpgt_epi8(classes, _mm256_set1_epi8(1));  // neither NaN nor zero
  const __m256i adds_low = _mm256_and_si256(_mm256_unpacklo_epi8(adds, adds), add);
  const __m256i adds_high = _mm256_and_si256(_mm256_unpackhi_epi8(adds, adds), add);
  return {_mm256_add_epi16(_mm256_unpacklo_epi8(low, high), adds_low),
          _mm256_add_epi16(_mm256_unpackhi_epi8(low, high), adds_high)};
}

ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline WordPair Words(__m256i values, __m256i add) {
  const __m256i classes =
      _mm256_and_si256(_mm256_add_epi8(values, _mm256_set1_epi8(1)), _mm256_set1_epi8(0x7f));
  const __m256i special = _mm256_cmpgt_epi8(_mm256_set1_epi8(9), classes);
  // In tables with a scale for 32 values special ones are rare.
  if (_mm256_movemask_epi8(special) == 0) return NormalWords(values, add);
  return AnyWords(values, classes, add);
}

ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline void Store(__m256i words, uint8_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
}

// Unpacking works in either half of a register alone: values are permuted first so that results
// come in their order.
ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline void Block(__m256i values, __m256i add,
                                                            uint8_t* out, uint16_t /*bf16*/) {
  const WordPair words = Words(_mm256_permute4x64_epi64(values, 0xd8), add);
  Store(words.low, out);
  Store(words.high, out + 32);
}

ENGRAM_TARGET_AVX2 [[gnu::always_inline]] inline void Block(__m256i values, __m256i add,
                                                            uint8_t* out, uint32_t /*f32*/) {
  const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const WordPair words = Words(_mm256_permutevar8x32_epi32(values, order), add);
  const __m256i zero = _mm256_setzero_si256();
  Store(_mm256_unpacklo_epi16(zero, words.low), out);
  Store(_mm256_unpackhi_epi16(zero, words.low), out + 32);
  Store(_mm256_unpacklo_epi16(zero, words.high), out + 64);
  Store(_mm256_unpackhi_epi16(zero, words.high), out + 96);
}

}  // namespace

template <typename Out>
ENGRAM_TARGET_AVX2 bool ConvertBlocksAvx2(const Fp8Rows& rows, uint8_t* out) {
  const size_t blocks = rows.row_values / kFp8Block;
  bool plain = true;
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* const values = rows.values + row * rows.value_stride;
    const uint8_t* const scales = rows.scales + row * rows.scale_stride;
    uint8_t* const to = out + row * rows.row_values * sizeof(Out);
    for (size_t block = 0; block < blocks; ++block) {
      const uint8_t scale = scales[block];
      plain &= IsPlainScale(scale);
      const auto* const at = reinterpret_cast<const __m256i*>(values + block * kFp8Block);
      const __m256i add = _mm256_set1_epi16(static_cast<int16_t>((scale - kLowScale) << 7));
      Block(_mm256_loadu_si256(at), add, to + block * kFp8Block * sizeof(Out), Out{});
    }
  }
  return plain;
}

template bool ConvertBlocksAvx2<uint16_t>(const Fp8Rows&, uint8_t*);
template bool ConvertBlocksAvx2<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram
#endif

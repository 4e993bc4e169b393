#if defined(__x86_64__)
#include <immintrin.h>

#include "client/dequantize_blocks.h"

namespace engram {
namespace {

// 16 bytes in both lanes, for shuffles by the low four bits of an index (bit 7 of it: zero).
#define ENGRAM_TABLE(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)

// A constant that stays in its register: GCC makes constants of one byte anew in every turn.
[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline __m256i Held(__m256i constant) {
  asm("" : "+x"(constant));
  return constant;
}
[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline __m256i HeldByte(int byte) {
  return Held(_mm256_set1_epi8(static_cast<char>(byte)));
}

struct Constants {
  __m256i one, nine, magnitude, low_nibble, high_nibble, biased, word_bits;
  __m256i high_bytes, correct_high, correct_low;
};

[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline Constants MakeConstants() {
  return {.one = HeldByte(1),
          .nine = HeldByte(9),
          .magnitude = HeldByte(0x7f),
          .low_nibble = HeldByte(0x0f),
          .high_nibble = HeldByte(0xf0),
          .biased = HeldByte(0x77),
          .word_bits = Held(_mm256_set1_epi16(static_cast<int16_t>(0x87f0))),
          // High bytes by a value's high four bits: the sign, the exponent's upper three bits.
          .high_bytes = Held(ENGRAM_TABLE(0, 1, 2, 3, 4, 5, 6, 7,  //
                                          -128, -127, -126, -125, -124, -123, -122, -121)),
          // By class + 7: what turns the bytes of (field 0, fraction m / 8) into those of m x 2^-9
          // modulo 2^16, or of a NaN.
          .correct_high = Held(ENGRAM_TABLE(0, 0, 0, 0, 0, 0, 0,  //
                                            0x78, 0, -1, -1, -1, 0, 0, 0, 0)),
          .correct_low = Held(ENGRAM_TABLE(0, 0, 0, 0, 0, 0, 0,  //
                                           0, 0, 0x10, 0x20 ^ -128, 0x30 ^ -64, 0x40, 0x50 ^ 0x20,
                                           0x60 ^ 0x40, 0x70 ^ 0x60))};
}

struct WordPair {
  __m256i low;   // of the low eight bytes of either lane
  __m256i high;  // of the high eight
};

// 32 values of one scale to bf16 words; `add` is that of kScaleAdds<kE4m3Bias>.
[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline WordPair NormalWords(const Constants& constants,
                                                                      __m256i values, __m256i add) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_srai_epi16(_mm256_unpacklo_epi8(zero, values), 4);
  const __m256i high = _mm256_srai_epi16(_mm256_unpackhi_epi8(zero, values), 4);
  return {_mm256_add_epi16(_mm256_and_si256(low, constants.word_bits), add),
          _mm256_add_epi16(_mm256_and_si256(high, constants.word_bits), add)};
}

// Where there may be subnormals, zeros and NaNs: they are taken for normal numbers, then corrected
// by tables that hold nothing for all others. `classes` says which they are: NaN 0, zero 1,
// subnormals 2 to 8 (magnitude + 1 modulo 128).
[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline WordPair AnyWords(const Constants& constants,
                                                                   __m256i values, __m256i classes,
                                                                   __m256i add) {
  const __m256i index = _mm256_adds_epu8(classes, constants.biased);
  const __m256i high_index = _mm256_and_si256(_mm256_srli_epi16(values, 4), constants.low_nibble);
  const __m256i low_bits = _mm256_and_si256(_mm256_slli_epi16(values, 4), constants.high_nibble);
  const __m256i high = _mm256_xor_si256(_mm256_shuffle_epi8(constants.high_bytes, high_index),
                                        _mm256_shuffle_epi8(constants.correct_high, index));
  const __m256i low = _mm256_xor_si256(low_bits, _mm256_shuffle_epi8(constants.correct_low, index));
  const __m256i adds = _mm256_cmpgt_epi8(classes, constants.one);  // neither NaN nor zero
  const __m256i adds_low = _mm256_and_si256(_mm256_unpacklo_epi8(adds, adds), add);
  const __m256i adds_high = _mm256_and_si256(_mm256_unpackhi_epi8(adds, adds), add);
  return {_mm256_add_epi16(_mm256_unpacklo_epi8(low, high), adds_low),
          _mm256_add_epi16(_mm256_unpackhi_epi8(low, high), adds_high)};
}

[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline WordPair Words(const Constants& constants,
                                                                __m256i values, __m256i add) {
  const __m256i classes =
      _mm256_and_si256(_mm256_add_epi8(values, constants.one), constants.magnitude);
  // In tables with a scale for 32 values special ones are rare.
  if (_mm256_movemask_epi8(_mm256_cmpgt_epi8(constants.nine, classes)) == 0) {
    return NormalWords(constants, values, add);
  }
  return AnyWords(constants, values, classes, add);
}

[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline void Store(__m256i words, uint8_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
}

// Unpacking works in either half of a register alone: values are permuted first so that results
// come in their order.
[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline void Block(const Constants& constants,
                                                            __m256i values, __m256i add,
                                                            uint8_t* out, uint16_t /*bf16*/) {
  const WordPair words = Words(constants, _mm256_permute4x64_epi64(values, 0xd8), add);
  Store(words.low, out);
  Store(words.high, out + 32);
}

[[gnu::always_inline]] ENGRAM_TARGET_AVX2 inline void Block(const Constants& constants,
                                                            __m256i values, __m256i add,
                                                            uint8_t* out, uint32_t /*f32*/) {
  const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const WordPair words = Words(constants, _mm256_permutevar8x32_epi32(values, order), add);
  const __m256i zero = _mm256_setzero_si256();
  Store(_mm256_unpacklo_epi16(zero, words.low), out);
  Store(_mm256_unpackhi_epi16(zero, words.low), out + 32);
  Store(_mm256_unpacklo_epi16(zero, words.high), out + 64);
  Store(_mm256_unpackhi_epi16(zero, words.high), out + 96);
}

}  // namespace

template <typename Out>
ENGRAM_TARGET_AVX2 bool ConvertBlocksAvx2(const Fp8Rows& rows, uint8_t* out) {
  const Constants constants = MakeConstants();
  const size_t blocks = rows.row_values / kFp8Block;
  uint32_t adds = 0;
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* const values = rows.values + row * rows.value_stride;
    const uint8_t* const scales = rows.scales + row * rows.scale_stride;
    uint8_t* const to = out + row * rows.row_values * sizeof(Out);
    for (size_t block = 0; block < blocks; ++block) {
      const auto* const at = reinterpret_cast<const __m256i*>(values + block * kFp8Block);
      const uint32_t add = kScaleAdds<kE4m3Bias>[scales[block]];
      adds |= add;
      Block(constants, _mm256_loadu_si256(at), _mm256_set1_epi32(static_cast<int>(add)),
            to + block * kFp8Block * sizeof(Out), Out{});
    }
  }
  return (adds & kOddScale) == 0;
}

template bool ConvertBlocksAvx2<uint16_t>(const Fp8Rows&, uint8_t*);
template bool ConvertBlocksAvx2<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram
#endif

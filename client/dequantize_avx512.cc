#if defined(__x86_64__)
#include <immintrin.h>

#include "client/dequantize_blocks.h"

namespace engram {
namespace {

// At this scale words are those of the tables: no word of a value is below zero, so that what is
// added never is either, and adding saturates at a NaN for NaN.
constexpr int kBias = 11;
static_assert(kBias <= kLowScale);

// High and low bytes of every magnitude's bf16 word at that scale.
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

// A constant that stays in its register: GCC makes it anew in every turn.
[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline __m512i Held(__m512i constant) {
  asm("" : "+v"(constant));
  return constant;
}

struct Constants {
  __m512i high[2], low[2];
  __m512i sign, magnitude;  // of bytes; of words
  // Unpacking works in lanes of 16 bytes: values are permuted first so that results come in their
  // order, the first scale's in the low halves of lanes.
  __m512i bf16_order, f32_order;
};

[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline Constants MakeConstants() {
  return {
      .high = {Held(_mm512_load_si512(kWordBytes.high)),
               Held(_mm512_load_si512(kWordBytes.high + 64))},
      .low = {Held(_mm512_load_si512(kWordBytes.low)),
              Held(_mm512_load_si512(kWordBytes.low + 64))},
      .sign = Held(_mm512_set1_epi8(-128)),
      .magnitude = Held(_mm512_set1_epi16(0x7fff)),
      .bf16_order = Held(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)),
      .f32_order = Held(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15))};
}

struct WordPair {
  __m512i low;   // of the low eight bytes of every lane of 16
  __m512i high;  // of the high eight
};
struct AddPair {
  uint32_t low, high;
};

// Adds to words that are not zero.
[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline __m512i AddScale(const Constants& constants,
                                                                  __m512i words, uint32_t add) {
  const __mmask32 not_zero = _mm512_test_epi16_mask(words, constants.magnitude);
  return _mm512_mask_adds_epu16(words, not_zero, words, _mm512_set1_epi32(static_cast<int>(add)));
}

// `adds`: of the low words' scale and of the high words'.
[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline WordPair Words(const Constants& constants,
                                                                __m512i values, AddPair adds) {
  constexpr int kSelectSign = 0xf8;  // a | (b & c)
  const __m512i high = _mm512_ternarylogic_epi32(
      _mm512_permutex2var_epi8(constants.high[0], values, constants.high[1]), values,
      constants.sign, kSelectSign);
  const __m512i low = _mm512_permutex2var_epi8(constants.low[0], values, constants.low[1]);
  return {AddScale(constants, _mm512_unpacklo_epi8(low, high), adds.low),
          AddScale(constants, _mm512_unpackhi_epi8(low, high), adds.high)};
}

// kBlocks is 1 where a row ends with 32 values.
template <size_t kBlocks>
[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline void Store(const Constants& constants,
                                                            __m512i values, AddPair adds,
                                                            uint8_t* out, uint16_t /*bf16*/) {
  const WordPair words =
      Words(constants, _mm512_permutexvar_epi64(constants.bf16_order, values), adds);
  _mm512_storeu_si512(out, words.low);
  if constexpr (kBlocks == 2) _mm512_storeu_si512(out + 64, words.high);
}

template <size_t kBlocks>
[[gnu::always_inline]] ENGRAM_TARGET_VBMI inline void Store(const Constants& constants,
                                                            __m512i values, AddPair adds,
                                                            uint8_t* out, uint32_t /*f32*/) {
  const WordPair words =
      Words(constants, _mm512_permutexvar_epi32(constants.f32_order, values), adds);
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
  const Constants constants = MakeConstants();
  const size_t blocks = rows.row_values / kFp8Block;
  uint32_t odd = 0;
  for (size_t row = 0; row < rows.rows; ++row) {
    const uint8_t* const values = rows.values + row * rows.value_stride;
    const uint8_t* const scales = rows.scales + row * rows.scale_stride;
    uint8_t* const to = out + row * rows.row_values * sizeof(Out);
    size_t block = 0;
    for (; block + 2 <= blocks; block += 2) {
      const AddPair adds{kScaleAdds<kBias>[scales[block]], kScaleAdds<kBias>[scales[block + 1]]};
      odd |= adds.low | adds.high;
      const __m512i at = _mm512_loadu_si512(values + block * kFp8Block);
      Store<2>(constants, at, adds, to + block * kFp8Block * sizeof(Out), Out{});
    }
    if (block < blocks) {
      const AddPair adds{kScaleAdds<kBias>[scales[block]], 0};
      odd |= adds.low;
      const __m512i at = _mm512_maskz_loadu_epi8(0xffffffff, values + block * kFp8Block);
      Store<1>(constants, at, adds, to + block * kFp8Block * sizeof(Out), Out{});
    }
  }
  return (odd & kOddScale) == 0;
}

template bool ConvertBlocksVbmi<uint16_t>(const Fp8Rows&, uint8_t*);
template bool ConvertBlocksVbmi<uint32_t>(const Fp8Rows&, uint8_t*);

}  // namespace engram
#endif

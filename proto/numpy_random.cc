#include "proto/numpy_random.h"

#include <array>
#include <bit>
#include <cstddef>

namespace engram {
namespace {

__extension__ typedef unsigned __int128 uint128;

// numpy.random.SeedSequence(entropy).generate_state(4, uint64): M. E. O'Neill's seed_seq design
// with numpy's constants (numpy/random/bit_generator.pyx), a pool of four 32-bit words.
std::array<uint64_t, 4> SeedState(uint64_t seed) {
  constexpr uint32_t kInitA = 0x43b0d7e5, kMultA = 0x931e8875;
  constexpr uint32_t kInitB = 0x8b51f9dd, kMultB = 0x58f38ded;
  constexpr uint32_t kMixLeft = 0xca01f9dd, kMixRight = 0x4973f715;
  constexpr size_t kPool = 4;

  // An integer's entropy is its 32-bit words without leading zeros; zero is one word. Missing
  // words of the pool hash as zero.
  const std::array<uint32_t, kPool> entropy = {static_cast<uint32_t>(seed),
                                               static_cast<uint32_t>(seed >> 32), 0, 0};
  uint32_t hash_a = kInitA;
  const auto hash = [&hash_a](uint32_t value) {
    value ^= hash_a;
    hash_a *= kMultA;
    value *= hash_a;
    return value ^ (value >> 16);
  };
  const auto mix = [](uint32_t x, uint32_t y) {
    const uint32_t result = kMixLeft * x - kMixRight * y;
    return result ^ (result >> 16);
  };
  std::array<uint32_t, kPool> pool;
  for (size_t i = 0; i < kPool; ++i) pool[i] = hash(entropy[i]);
  for (size_t from = 0; from < kPool; ++from) {
    for (size_t to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = mix(pool[to], hash(pool[from]));
    }
  }

  uint32_t hash_b = kInitB;
  std::array<uint64_t, 4> state{};
  for (size_t i = 0; i < 8; ++i) {
    uint32_t value = pool[i % kPool] ^ hash_b;
    hash_b *= kMultB;
    value *= hash_b;
    value ^= value >> 16;
    state[i / 2] |= static_cast<uint64_t>(value) << (32 * (i % 2));
  }
  return state;
}

constexpr uint128 kPcgMultiplier =
    (static_cast<uint128>(2549297995355413924u) << 64) | 4865540595714422341u;

}  // namespace

NumpyRandom::NumpyRandom(uint64_t seed) {
  const std::array<uint64_t, 4> words = SeedState(seed);
  const uint128 initial = (static_cast<uint128>(words[0]) << 64) | words[1];
  const uint128 sequence = (static_cast<uint128>(words[2]) << 64) | words[3];
  increment_ = (sequence << 1) | 1;
  state_ = (increment_ + initial) * kPcgMultiplier + increment_;
}

uint64_t NumpyRandom::Next() {
  state_ = state_ * kPcgMultiplier + increment_;
  const uint64_t folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
  return std::rotr(folded, static_cast<int>(state_ >> 122));
}

uint64_t NumpyRandom::Below(uint64_t high) {
  uint128 product = static_cast<uint128>(Next()) * high;
  uint64_t low = static_cast<uint64_t>(product);
  if (low < high) {
    const uint64_t threshold = (0 - high) % high;
    while (low < threshold) {
      product = static_cast<uint128>(Next()) * high;
      low = static_cast<uint64_t>(product);
    }
  }
  return static_cast<uint64_t>(product >> 64);
}

}  // namespace engram

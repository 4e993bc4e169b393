// numpy.random.default_rng(seed).integers(0, high, dtype=int64), bit for bit: the multipliers of
// the hash are defined by it.
#ifndef ENGRAM_PROTO_NUMPY_RANDOM_H_
#define ENGRAM_PROTO_NUMPY_RANDOM_H_

#include <cstdint>

namespace engram {

class NumpyRandom {
 public:
  // SeedSequence(seed) feeding PCG64 (XSL-RR 128/64), as numpy >= 1.17 does.
  explicit NumpyRandom(uint64_t seed);

  // A uniform integer in [0, high) by Lemire's method, as Generator.integers draws for ranges that
  // need more than 32 bits. `high` must be in [2^32 + 1, 2^63]: below that numpy draws from 32-bit
  // halves, which no geometry in bounds needs (see kMaxVocab).
  uint64_t Below(uint64_t high);

 private:
  __extension__ typedef unsigned __int128 uint128;

  uint64_t Next();

  uint128 state_;
  uint128 increment_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_NUMPY_RANDOM_H_

#ifndef ENGRAM_PROTO_PRIMES_H_
#define ENGRAM_PROTO_PRIMES_H_

#include <cstdint>

namespace engram {

// Exact for every 64-bit number (deterministic Miller-Rabin: the first twelve primes as witnesses
// decide every n < 3.3e24, Sorenson and Webster 2015).
bool IsPrime(uint64_t n);

// The smallest prime above `n`, which must be below 2^63.
uint64_t NextPrime(uint64_t n);

}  // namespace engram

#endif  // ENGRAM_PROTO_PRIMES_H_

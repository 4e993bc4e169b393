#include "proto/primes.h"

namespace engram {
namespace {

__extension__ typedef unsigned __int128 uint128;

uint64_t MulMod(uint64_t a, uint64_t b, uint64_t n) {
  return static_cast<uint64_t>(static_cast<uint128>(a) * b % n);
}

uint64_t PowMod(uint64_t base, uint64_t exponent, uint64_t n) {
  uint64_t result = 1;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result = MulMod(result, base, n);
    base = MulMod(base, base, n);
  }
  return result;
}

}  // namespace

bool IsPrime(uint64_t n) {
  constexpr uint64_t kWitnesses[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  if (n < 2) return false;
  for (const uint64_t p : kWitnesses) {
    if (n % p == 0) return n == p;
  }
  uint64_t odd = n - 1;
  int twos = 0;
  for (; odd % 2 == 0; odd /= 2) ++twos;
  for (const uint64_t witness : kWitnesses) {
    uint64_t x = PowMod(witness, odd, n);
    if (x == 1 || x == n - 1) continue;
    bool composite = true;
    for (int i = 1; i < twos && composite; ++i) {
      x = MulMod(x, x, n);
      composite = x != n - 1;
    }
    if (composite) return false;
  }
  return true;
}

uint64_t NextPrime(uint64_t n) {
  do {
    ++n;
  } while (!IsPrime(n));
  return n;
}

}  // namespace engram

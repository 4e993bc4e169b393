#include "proto/primes.h"

#include <gtest/gtest.h>

#include <vector>

namespace engram {
namespace {

TEST(IsPrime, AgreesWithTheSieve) {
  constexpr uint64_t kLimit = 100000;
  std::vector<bool> composite(kLimit, false);
  for (uint64_t n = 2; n < kLimit; ++n) {
    EXPECT_EQ(IsPrime(n), !composite[n]) << n;
    for (uint64_t multiple = n * n; multiple < kLimit; multiple += n) composite[multiple] = true;
  }
  EXPECT_FALSE(IsPrime(0));
  EXPECT_FALSE(IsPrime(1));
}

TEST(IsPrime, LargeNumbers) {
  EXPECT_TRUE(IsPrime((uint64_t{1} << 61) - 1));             // a Mersenne prime
  EXPECT_TRUE(IsPrime(18446744073709551557u));               // the largest below 2^64
  EXPECT_FALSE(IsPrime(18446744073709551615u));              // 2^64 - 1 = 3 * 5 * 17 * ...
  EXPECT_FALSE(IsPrime(uint64_t{4294967291} * 4294967291));  // the square of a prime
  EXPECT_FALSE(IsPrime(uint64_t{4294967291} * 4294967279));  // two primes just below 2^32
}

// Composites that pass the Miller-Rabin test for every one of the first few prime witnesses
// (OEIS A014233): a shorter list of witnesses would take them for primes.
TEST(IsPrime, StrongPseudoprimes) {
  for (const uint64_t n : {uint64_t{2047}, uint64_t{1373653}, uint64_t{25326001},
                           uint64_t{3215031751}, uint64_t{2152302898747}, uint64_t{3474749660383},
                           uint64_t{341550071728321}, uint64_t{3825123056546413051}}) {
    EXPECT_FALSE(IsPrime(n)) << n;
  }
}

TEST(NextPrime, IsStrictlyAbove) {
  EXPECT_EQ(NextPrime(0), 2u);
  EXPECT_EQ(NextPrime(1), 2u);
  EXPECT_EQ(NextPrime(2), 3u);
  EXPECT_EQ(NextPrime(7), 11u);
  EXPECT_EQ(NextPrime(113), 127u);
  EXPECT_EQ(NextPrime(15999999), 16000057u);  // V4.1-Flash's first bucket size
  EXPECT_EQ(NextPrime(uint64_t{1} << 40), 1099511627791u);
}

}  // namespace
}  // namespace engram

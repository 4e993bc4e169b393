#include "proto/numpy_random.h"

#include <gtest/gtest.h>

namespace engram {
namespace {

// What numpy 1.24 prints for
//   numpy.random.default_rng(seed).integers(0, high, size=4, dtype=numpy.int64)
// Three quarters of 2^63 rejects one draw in four: that is Lemire's loop.
TEST(NumpyRandom, DrawsWhatNumpyDraws) {
  constexpr uint64_t kSmall = 4294967297;  // the lowest bound in range, 2^32 + 1
  constexpr uint64_t kFlash = 46539859151;
  constexpr uint64_t kThreeQuarters = 6917529027641081856;
  constexpr uint64_t kHalf = 4611686018427387903;  // that of a vocabulary of one
  const struct {
    uint64_t seed;
    uint64_t high;
    uint64_t draws[4];
  } kCases[] = {
      {0, kSmall, {2735729616, 1158725112, 175979945, 70985654}},
      {0,
       kThreeQuarters,
       {4406200961541402851, 1866257423733469356, 114330398526872074, 6314013200959933085}},
      {7,
       kHalf,
       {2882744023523087010, 4137668341471484580, 3577218852397956695, 1038584849328933328}},
      {7,
       kThreeQuarters,
       {6206502512207226871, 5365828278596935044, 1557877273993399992, 2076408988992585337}},
      {10007, kFlash, {38316394524, 2419959930, 17979998755, 36994003271}},
      {10007,
       kThreeQuarters,
       {359694751378967443, 1538764283633127253, 155932486627929098, 4429730739593083823}},
      {140098, kFlash, {33858711559, 25755636312, 15460813415, 41309986815}},
      // Seeds of one 32-bit word, of two, and the largest.
      {4294967295, kFlash, {11725418170, 10195291303, 13370190425, 28807302636}},
      {4294967296, kFlash, {41408318027, 25929126384, 37274149556, 44516018341}},
      {4611686018427387904,
       kHalf,
       {3189973833151094541, 1240720371364177795, 2422969540346143694, 475868284676924403}},
      {18446744073709551615u, kFlash, {31648345857, 39340690182, 344538374, 41633074605}},
      // The highest bound of an int64.
      {18446744073709551615u,
       uint64_t{1} << 63,
       {6272139055050500935, 7796624836349661612, 68281375809169701, 8250934642460399320}},
  };
  for (const auto& test : kCases) {
    NumpyRandom random(test.seed);
    for (const uint64_t draw : test.draws) {
      EXPECT_EQ(random.Below(test.high), draw) << "seed " << test.seed << ", below " << test.high;
    }
  }
}

}  // namespace
}  // namespace engram

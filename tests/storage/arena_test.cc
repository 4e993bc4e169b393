#include "storage/arena.h"

#include <utility>

#include "tests/support/status_matchers.h"

namespace engram {
namespace {

constexpr uint64_t kTwoMib = 2 << 20;

TEST(ArenaTest, IsAlignedZeroedAndWritable) {
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4097}, kTwoMib, 3 * kTwoMib + 5}) {
    ASSERT_OK_AND_ASSIGN(const Arena arena, Arena::Create(bytes));
    EXPECT_EQ(arena.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.data()) % kTwoMib, 0u);
    for (uint64_t i = 0; i < bytes; i += 997) ASSERT_EQ(arena.data()[i], 0);
    arena.data()[0] = 1;
    arena.data()[bytes - 1] = 2;
    EXPECT_EQ(arena.data()[bytes - 1], 2);
  }
}

TEST(ArenaTest, MayBeEmpty) {
  ASSERT_OK_AND_ASSIGN(const Arena arena, Arena::Create(0));
  EXPECT_EQ(arena.bytes(), 0u);
}

TEST(ArenaTest, MovesWithItsBytes) {
  ASSERT_OK_AND_ASSIGN(Arena arena, Arena::Create(100));
  uint8_t* const data = arena.data();
  data[99] = 7;
  const Arena moved(std::move(arena));
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(moved.data()[99], 7);
}

TEST(ArenaTest, TooMuchIsResourceExhausted) {
  EXPECT_THAT(Arena::Create(~uint64_t{0}),
              StatusIs(kExhausted, "cannot map 18446744073709551615 bytes"));
  // Within the check's bound, beyond what the user half of a 47-bit address space holds twice.
  EXPECT_THAT(Arena::Create((uint64_t{1} << 46) + 1), StatusIs(kExhausted, "cannot map"));
}

}  // namespace
}  // namespace engram

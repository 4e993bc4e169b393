#include "client/resolver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>

#include "absl/time/clock.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// What a lookup shares with the test, and may outlive it with.
struct SlowNames {
  std::atomic<bool> begun = false;
  std::atomic<bool> may_end = false;
  std::atomic<bool> ended = false;
};

// Up to a limit, so that a resolver that waits makes the test fail and not hang.
bool WaitFor(const std::function<bool()>& condition) {
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  while (!condition() && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(1));
  return condition();
}

Resolver::LookUp LookUpSlowly(const std::shared_ptr<SlowNames>& names) {
  return [names](const std::string& address, bool numeric_only) -> Resolution::Addresses {
    if (numeric_only) return absl::NotFoundError(address);
    names->begun = true;
    WaitFor([&] { return names->may_end.load(); });
    names->ended = true;
    return ResolveAddress("127.0.0.1:1", true);
  };
}

TEST(ResolverTest, SaysWhenALookupIsDone) {
  const auto names = std::make_shared<SlowNames>();
  std::atomic<int> calls = 0;
  Resolver resolver(LookUpSlowly(names));
  const auto resolution = resolver.Resolve("emb:1", [&] { ++calls; });
  EXPECT_FALSE(resolution->at_once());
  EXPECT_TRUE(WaitFor([&] { return names->begun.load(); }));
  EXPECT_FALSE(resolution->done());
  names->may_end = true;
  EXPECT_TRUE(WaitFor([&] { return calls == 1; }));
  EXPECT_TRUE(resolution->done());
  EXPECT_THAT(resolution->addresses(), IsOk());
}

TEST(ResolverTest, EndsWhileALookupIsUnderWay) {
  const auto names = std::make_shared<SlowNames>();
  std::atomic<int> calls = 0;
  {
    Resolver resolver(LookUpSlowly(names));
    resolver.Resolve("emb:1", [&] { ++calls; });
    resolver.Resolve("emb:2", [&] { ++calls; });
    EXPECT_TRUE(WaitFor([&] { return names->begun.load(); }));
  }
  EXPECT_FALSE(names->ended);
  names->may_end = true;
  // The thread that was left behind has dropped all that it had.
  EXPECT_TRUE(WaitFor([&] { return names.use_count() == 1; }));
  EXPECT_TRUE(names->ended);
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace engram

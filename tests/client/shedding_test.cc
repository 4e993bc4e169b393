#include "client/shedding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <queue>
#include <random>
#include <vector>

namespace engram {
namespace {

const absl::Time kBegin = absl::FromUnixSeconds(1000);
constexpr uint64_t kMega = 1 << 20;

TEST(Shedding, NothingIsRefusedWhereNothingWasLate) {
  Shedding shedding;
  for (int i = 0; i < 100; ++i) shedding.OnAnswer(16 * kMega, absl::Seconds(5));
  EXPECT_EQ(shedding.Missing(99 * kMega, kMega, absl::Milliseconds(1), kBegin),
            absl::ZeroDuration());
}

TEST(Shedding, SaysHowMuchTimeIsMissing) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  const auto missing_ms = [&](uint64_t before, uint64_t bytes, absl::Duration left) {
    return absl::ToDoubleMilliseconds(shedding.Missing(before, bytes, left, kBegin));
  };
  EXPECT_NEAR(missing_ms(31 * kMega, kMega, absl::Milliseconds(200)), 280, 0.01);
  EXPECT_EQ(missing_ms(31 * kMega, kMega, absl::Milliseconds(481)), 0);
  EXPECT_EQ(missing_ms(1, kMega - 1, absl::Microseconds(1)), 0) << "few bytes";
  EXPECT_EQ(missing_ms(0, 32 * kMega, absl::Microseconds(1)), 0) << "it waits for none";
}

// It was alone and late, twice: others ask for too much.
TEST(Shedding, AsksAgainAfterAWhileThatDoubles) {
  Shedding shedding;
  absl::Time now = kBegin;
  const auto waits_ms = [&](uint64_t before = 0) {
    return absl::ToInt64Milliseconds(shedding.Missing(before, kMega, absl::Seconds(1), now));
  };
  // As soon as it may be asked for; it takes half a second.
  const auto miss = [&] {
    now += absl::Milliseconds(waits_ms() + 500);
    shedding.OnMiss(0, kMega, absl::Milliseconds(500), now);
  };
  miss();
  EXPECT_EQ(waits_ms(), 0) << "it may have stood still";
  miss();
  EXPECT_EQ(waits_ms(), 250);
  EXPECT_EQ(waits_ms(1), 250);
  now += absl::Milliseconds(100);
  EXPECT_EQ(waits_ms(), 150);
  for (const int pause : {500, 1000, 2000, 2000}) {
    miss();
    EXPECT_EQ(waits_ms(), pause);
  }
  // What had others before it says nothing of other clients.
  now += absl::Seconds(2);
  shedding.OnMiss(kMega, kMega, absl::Milliseconds(500), now);
  EXPECT_EQ(waits_ms(), 0);
  // Each answer takes one miss back.
  for (int i = 0; i < 3; ++i) shedding.OnAnswer(kMega, absl::Milliseconds(300));
  miss();
  EXPECT_EQ(waits_ms(), 500);
  // A second without any of it, and it is forgotten.
  now += absl::Milliseconds(1501);
  miss();
  EXPECT_EQ(waits_ms(), 0);
}

TEST(Shedding, AServerThatStoodStillIsNotRefusedForEver) {
  Shedding shedding;
  for (int i = 0; i < 3; ++i) shedding.OnMiss(0, 16 * kMega, absl::Seconds(30), kBegin);
  absl::Time now = kBegin;
  while (shedding.Missing(0, 16 * kMega, absl::Milliseconds(500), now) > absl::ZeroDuration()) {
    now += absl::Milliseconds(1);
  }
  EXPECT_LE(now, kBegin + absl::Seconds(1));
  // It is asked for one at a time until that has set the measure right.
  const auto refuses = [&] {
    return shedding.Missing(16 * kMega, kMega, absl::Milliseconds(500), now) > absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses());
  for (int i = 0; i < 20; ++i) shedding.OnAnswer(16 * kMega, absl::Milliseconds(50));
  EXPECT_FALSE(refuses());
}

TEST(Shedding, LastsWhileSomethingIsRefused) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  const auto refuses = [&](absl::Duration at, absl::Duration left) {
    return shedding.Missing(15 * kMega, kMega, left, kBegin + at) > absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses(absl::Milliseconds(900), absl::Milliseconds(1)));
  EXPECT_TRUE(refuses(absl::Milliseconds(1800), absl::Milliseconds(1)));
  EXPECT_FALSE(refuses(absl::Milliseconds(2700), absl::Milliseconds(300)));
  EXPECT_FALSE(refuses(absl::Milliseconds(2900), absl::Milliseconds(1)));
}

TEST(Shedding, AServerThatIsQuickAgainIsSoonAskedForAll) {
  Shedding shedding;
  for (int i = 0; i < 10; ++i) shedding.OnAnswer(kMega, absl::Seconds(2));
  shedding.OnMiss(kBegin);
  const auto refuses = [&] {
    return shedding.Missing(15 * kMega, kMega, absl::Milliseconds(500), kBegin) >
           absl::ZeroDuration();
  };
  EXPECT_TRUE(refuses());
  // Small answers take long by their bytes.
  for (int i = 0; i < 32; ++i) shedding.OnAnswer(50'000, absl::Microseconds(200));
  EXPECT_FALSE(refuses());
  // They do not say that it is slow.
  for (int i = 0; i < 100; ++i) shedding.OnAnswer(50'000, absl::Milliseconds(20));
  EXPECT_FALSE(refuses());
}

// A server that answers `kRate` bytes a second, in their order, to clients that each ask as
// Dispatch does: as far as a credit goes, the rest waits, and what is over is called off. What
// service/call.h calls late it does not begin.
class Overload {
 public:
  static constexpr double kRate = 350e6, kTime = 0.5, kSeconds = 10;
  // Of what an answer costs, what refusing one does. Of ours it is about a quarter.
  static constexpr double kRefusal = 0.25;
  static constexpr uint64_t kCredit = 16 * kMega, kBytes = kMega;

  Overload(size_t clients, bool client_sheds, bool server_sheds)
      : client_sheds_(client_sheds), server_sheds_(server_sheds), lanes_(clients) {}

  // Answers in time a second, where `multiple` times what can be answered is asked for; those of
  // the first second, in which nobody knows, are not counted.
  double GoodputAt(double multiple) {
    const double gap = kBytes / (kRate * multiple);
    for (double now = 0; now < kSeconds; now += gap) {
      Serve(now);
      Ask(lanes_[random_() % lanes_.size()], now);
    }
    return static_cast<double>(good_) / (kSeconds - 1);
  }

 private:
  struct Request {
    double deadline = 0, sent = 0;
    uint64_t outstanding = 0;
  };
  struct Lane {
    Shedding shedding;
    std::deque<Request> waiting;
    uint64_t in_flight = 0;
  };

  static absl::Time At(double now) { return kBegin + absl::Seconds(now); }

  bool Refused(Lane& lane, const Request& request, uint64_t before, double now) const {
    return client_sheds_ &&
           lane.shedding.Missing(before, kBytes, absl::Seconds(request.deadline - now), At(now)) >
               absl::ZeroDuration();
  }

  void Ask(Lane& lane, double now) {
    const Request request{.deadline = now + kTime};
    const uint64_t outstanding = lane.in_flight + lane.waiting.size() * kBytes;
    const bool waits = !lane.waiting.empty() || lane.in_flight + kBytes > kCredit;
    if (waits && Refused(lane, request, outstanding, now)) return;
    lane.waiting.push_back(request);
    SendWaiting(lane, now);
  }

  void SendWaiting(Lane& lane, double now) {
    while (!lane.waiting.empty()) {
      Request request = lane.waiting.front();
      const bool wanted = now < request.deadline;
      if (wanted && lane.in_flight != 0 && lane.in_flight + kBytes > kCredit) return;
      lane.waiting.pop_front();
      if (!wanted) {
        lane.shedding.OnMiss(At(now));
      } else if (!Refused(lane, request, lane.in_flight, now)) {
        lane.in_flight += kBytes;
        request.sent = now;
        request.outstanding = lane.in_flight;
        asked_.emplace(&lane, request);
      }
    }
  }

  // Whether it is worth beginning when its turn comes.
  bool IsWorthIt(const Request& request) {
    if (free_at_ > request.deadline) late_until_ = free_at_ + 1;
    const bool late = server_sheds_ && free_at_ < late_until_;
    return request.deadline - free_at_ >= (late ? kTime / 16 : 0);
  }

  // What it has been asked for, up to now. What is called off, or not begun, costs it a little.
  void Serve(double now) {
    while (!asked_.empty()) {
      auto [lane, request] = asked_.front();
      const bool wanted = IsWorthIt(request);
      const double costs = kBytes / kRate * (wanted ? 1 : kRefusal);
      const double done = std::max(free_at_, request.sent) + costs;
      if (done > now) return;
      asked_.pop();
      free_at_ = done;
      lane->in_flight -= kBytes;
      const bool good = wanted && done <= request.deadline;
      const absl::Duration took = absl::Seconds(done - request.sent);
      if (good) {
        lane->shedding.OnAnswer(request.outstanding, took);
      } else {
        lane->shedding.OnMiss(request.outstanding - kBytes, kBytes, took, At(done));
      }
      good_ += good && done > 1;
      SendWaiting(*lane, done);
    }
  }

  const bool client_sheds_, server_sheds_;
  std::vector<Lane> lanes_;
  std::queue<std::pair<Lane*, Request>> asked_;
  std::minstd_rand random_{7};
  double free_at_ = 0;
  double late_until_ = 0;
  size_t good_ = 0;
};

TEST(Shedding, GoodputIsKeptUpToTwentyTimesWhatCanBeAnswered) {
  constexpr double kCapacity = Overload::kRate / Overload::kBytes;
  for (const size_t clients : {1, 4, 32, 64}) {
    for (const double multiple : {0.9, 1.0, 1.2, 2.0, 5.0, 20.0}) {
      EXPECT_GE(Overload(clients, true, true).GoodputAt(multiple),
                0.9 * std::min(1.0, multiple) * kCapacity)
          << clients << " clients, " << multiple << "x";
    }
  }
  // What they are there for: clients bound what they ask for, and the server begins nothing late.
  EXPECT_LT(Overload(4, false, false).GoodputAt(20), 0.5 * kCapacity);
  EXPECT_LT(Overload(256, false, true).GoodputAt(20), 0.1 * kCapacity);
  EXPECT_GE(Overload(256, true, true).GoodputAt(20), 0.6 * kCapacity);
}

}  // namespace
}  // namespace engram

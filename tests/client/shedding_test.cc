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
  EXPECT_EQ(shedding.Missing(100 * kMega, absl::Milliseconds(1), kBegin), absl::ZeroDuration());
}

TEST(Shedding, SaysHowMuchTimeIsMissing) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  EXPECT_NEAR(
      absl::ToDoubleMilliseconds(shedding.Missing(32 * kMega, absl::Milliseconds(200), kBegin)),
      280, 0.01);
  EXPECT_EQ(shedding.Missing(32 * kMega, absl::Milliseconds(481), kBegin), absl::ZeroDuration());
  EXPECT_EQ(shedding.Missing(kMega, absl::Microseconds(1), kBegin), absl::ZeroDuration());
}

TEST(Shedding, LastsWhileSomethingIsRefused) {
  Shedding shedding;
  shedding.OnAnswer(16 * kMega, absl::Milliseconds(160));
  shedding.OnMiss(kBegin);
  const auto refuses = [&](absl::Duration at, absl::Duration left) {
    return shedding.Missing(16 * kMega, left, kBegin + at) > absl::ZeroDuration();
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
    return shedding.Missing(16 * kMega, absl::Milliseconds(500), kBegin) > absl::ZeroDuration();
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
  static constexpr uint64_t kCredit = 16 * kMega, kBytes = kMega;

  Overload(size_t clients, bool client_sheds, bool server_sheds)
      : client_sheds_(client_sheds), server_sheds_(server_sheds), lanes_(clients) {}

  // Answers in time a second, where `multiple` times what can be answered is asked for.
  double GoodputAt(double multiple) {
    const double gap = kBytes / (kRate * multiple);
    for (double now = 0; now < kSeconds; now += gap) {
      Serve(now);
      Ask(lanes_[random_() % lanes_.size()], now);
    }
    return static_cast<double>(good_) / kSeconds;
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
           lane.shedding.Missing(before + kBytes, absl::Seconds(request.deadline - now), At(now)) >
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
    return request.deadline - free_at_ >= (late ? kTime / 4 : 0);
  }

  // What it has been asked for, up to now. What is called off, or not begun, costs it nothing.
  void Serve(double now) {
    while (!asked_.empty()) {
      auto [lane, request] = asked_.front();
      const bool wanted = IsWorthIt(request);
      const double done = std::max(free_at_, request.sent) + (wanted ? kBytes / kRate : 0);
      if (done > now) return;
      asked_.pop();
      free_at_ = done;
      lane->in_flight -= kBytes;
      if (wanted) lane->shedding.OnAnswer(request.outstanding, absl::Seconds(done - request.sent));
      const bool good = wanted && done <= request.deadline;
      if (!good) lane->shedding.OnMiss(At(done));
      if (good) ++good_;
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
  for (const size_t clients : {1, 4, 32, 64, 256, 1000, 4000}) {
    for (const double multiple : {0.9, 1.0, 1.2, 2.0, 5.0, 20.0}) {
      EXPECT_GE(Overload(clients, true, true).GoodputAt(multiple),
                0.9 * std::min(1.0, multiple) * kCapacity)
          << clients << " clients, " << multiple << "x";
    }
  }
  // What they are there for: clients spare the server requests, it keeps those of many in time.
  EXPECT_LT(Overload(4, false, false).GoodputAt(20), 0.5 * kCapacity);
  EXPECT_LT(Overload(256, true, false).GoodputAt(20), 0.5 * kCapacity);
}

}  // namespace
}  // namespace engram

// Overload in small: how client and server shed together what would come too late, for any number
// of clients, as a model of both around their own rules (client/shedding.h, service/backlog.h,
// service/turns.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <queue>
#include <random>
#include <vector>

#include "client/shedding.h"
#include "service/backlog.h"
#include "service/turns.h"

namespace engram {
namespace {

constexpr uint64_t kMega = 1 << 20;

struct Sheds {
  bool client = true, server = true;
};

// A server that answers `kRate` bytes a second to clients that each ask as Dispatch does: as far as
// a credit goes, the rest waits, and what is over is called off. Times in seconds.
class Overload {
 public:
  static constexpr double kRate = 350e6, kTime = 0.5, kSeconds = 8;
  // Until then servers and clients learn that there is overload.
  static constexpr double kSurge = 2;
  // Of what an answer costs, what taking in a request does, or calling it off, or refusing it. Of
  // ours it is somewhat more (tests/faults/README.md, "Overload").
  static constexpr double kMessage = 0.1;
  static constexpr uint64_t kCredit = 16 * kMega, kBytes = kMega;
  static constexpr int kPieces = 4;  // an answer
  static constexpr int kMostEvents = 64;
  // Answers a second.
  static constexpr double kCapacity = kRate / kBytes / (1 + kMessage);

  Overload(size_t clients, Sheds sheds) : sheds_(sheds) {
    for (size_t i = 0; i < clients; ++i) lanes_.push_back(std::make_unique<Lane>(*this));
  }

  // Of what can be answered, what is answered in time where `multiple` times as much is asked for.
  double GoodputAt(double multiple) {
    const double gap = 1 / (kCapacity * multiple);
    for (double now = 0; now < kSeconds; now += gap) {
      Serve(now);
      Ask(*lanes_[random_() % lanes_.size()], now);
    }
    return static_cast<double>(good_) / (kSeconds - kSurge) / kCapacity;
  }

 private:
  struct Request {
    double deadline = 0, sent = 0, received = 0;
    uint64_t outstanding = 0;
    int pieces = 0;
  };
  struct Lane {
    explicit Lane(Overload& overload)
        : turn([&overload, this] { overload.Answer(*this); }), backlog(overload.backlog_) {}
    Shedding shedding;
    std::deque<Request> waiting;
    uint64_t in_flight = 0;
    std::deque<Request> received;
    Turns::Turn turn;
    Backlog::Stream backlog;
  };

  static absl::Time At(double now) { return absl::FromUnixSeconds(1000) + absl::Seconds(now); }
  static int64_t Ns(double now) { return absl::ToUnixNanos(At(now)); }

  // ---- the client's part

  bool Refused(Lane& lane, const Request& request, uint64_t before, double now) const {
    return sheds_.client &&
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
        sent_.emplace(&lane, request);
      }
    }
  }

  // ---- the server's

  // What it does until then: whatever has come is taken in before anything is answered, as far as
  // service/worker.h goes.
  void Serve(double until) {
    while (clock_ < until) {
      if (!sent_.empty() && sent_.front().second.sent <= clock_ && taken_ < kMostEvents) {
        Receive();
        ++taken_;
      } else if (taken_ = 0; !turns_.GiveOne()) {
        clock_ = sent_.empty() ? until : std::max(clock_, sent_.front().second.sent);
        backlog_.OnIdle(Ns(clock_));
      }
    }
  }

  void Receive() {
    auto [lane, request] = sent_.front();
    sent_.pop();
    clock_ += kMessage * kBytes / kRate;
    request.received = clock_;
    if (sheds_.server) {
      const auto budget_ns = static_cast<int64_t>((request.deadline - request.sent) * 1e9);
      const int64_t after_ns =
          lane->backlog.Refuse(WirePriority::kPrefill, kBytes, budget_ns, Ns(clock_));
      if (after_ns != 0) {
        lane->in_flight -= kBytes;
        lane->shedding.OnRefused(absl::Nanoseconds(after_ns), At(clock_));
        return SendWaiting(*lane, clock_);
      }
    }
    lane->received.push_back(request);
    lane->backlog.Add(WirePriority::kPrefill, kBytes);
    AwaitTurn(*lane);
  }

  void AwaitTurn(Lane& lane) {
    if (lane.received.empty()) return;
    const bool begun = lane.received.front().pieces != 0;
    turns_.Add(lane.turn, sheds_.server && begun && lateness_.late(Ns(clock_)));
  }

  void Answer(Lane& lane) {
    Request& request = lane.received.front();
    const int64_t received_ns = Ns(request.received);
    // Its client's time has begun before it was taken in.
    const int64_t deadline_ns = Ns(request.received + request.deadline - request.sent);
    if (clock_ > request.deadline) {
      clock_ += kMessage * kBytes / kRate;
      if (sheds_.server) lateness_.OnCancel(received_ns, deadline_ns, Ns(clock_));
      return End(lane, false);
    }
    if (sheds_.server &&
        lateness_.TooLate(request.pieces != 0, received_ns, deadline_ns, Ns(clock_))) {
      return End(lane, false);
    }
    clock_ += kBytes / kRate / kPieces;
    lane.backlog.Subtract(WirePriority::kPrefill, kBytes / kPieces);
    backlog_.OnAnswered(kBytes / kPieces, Ns(clock_));
    if (++request.pieces == kPieces) return End(lane, clock_ <= request.deadline);
    AwaitTurn(lane);
  }

  void End(Lane& lane, bool good) {
    const Request request = lane.received.front();
    lane.received.pop_front();
    lane.backlog.Subtract(WirePriority::kPrefill, kBytes - request.pieces * (kBytes / kPieces));
    lane.in_flight -= kBytes;
    const absl::Duration took = absl::Seconds(clock_ - request.sent);
    if (good) {
      lane.shedding.OnAnswer(request.outstanding, took);
    } else {
      lane.shedding.OnMiss(request.outstanding - kBytes, kBytes, took, At(clock_));
    }
    good_ += good && clock_ > kSurge;
    AwaitTurn(lane);
    SendWaiting(lane, clock_);
  }

  const Sheds sheds_;
  Backlog backlog_;
  Lateness lateness_;
  Turns turns_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::queue<std::pair<Lane*, Request>> sent_;
  std::minstd_rand random_{7};
  double clock_ = 0;
  int taken_ = 0;
  size_t good_ = 0;
};

TEST(Overload, GoodputIsKeptUpToTwentyTimesWhatCanBeAnswered) {
  for (const size_t clients : {1, 4, 32, 64, 256}) {
    for (const double multiple : {0.9, 1.0, 1.2, 2.0, 5.0, 20.0}) {
      EXPECT_GE(Overload(clients, {}).GoodputAt(multiple), 0.9 * std::min(1.0, multiple))
          << clients << " clients, " << multiple << "x";
    }
  }
  EXPECT_GE(Overload(1000, {}).GoodputAt(20), 0.8);
  EXPECT_GE(Overload(4000, {}).GoodputAt(5), 0.7);
}

TEST(Overload, WhatEachSideShedsIsNeeded) {
  EXPECT_LT(Overload(4, {.client = false, .server = false}).GoodputAt(5), 0.1);
  EXPECT_LT(Overload(4, {.client = false, .server = true}).GoodputAt(20), 0.1);
  EXPECT_LT(Overload(256, {.client = true, .server = false}).GoodputAt(5), 0.6);
}

}  // namespace
}  // namespace engram

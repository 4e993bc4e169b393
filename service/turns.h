// Whose turn it is, and what would come too late.
#ifndef ENGRAM_SERVICE_TURNS_H_
#define ENGRAM_SERVICE_TURNS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

namespace engram {

// Work that waits until the queue has no event left. Taking in everything that has come before any
// of it is answered lets answers leave together; and prefill gives way to whatever is there, on
// every connection of the thread. Each turn goes round.
class Turns {
 public:
  // A piece of work that can wait; not movable.
  class Turn {
   public:
    explicit Turn(std::function<void()> take) : take_(std::move(take)) {}
    Turn(const Turn&) = delete;

   private:
    friend class Turns;
    const std::function<void()> take_;
    bool waiting_ = false;
  };

  // `ahead`: before all that are not.
  void Add(Turn& turn, bool ahead = false) {
    if (!turn.waiting_) (ahead ? ahead_ : waiting_).push_back(&turn);
    turn.waiting_ = true;
  }
  // For one that goes away.
  void Remove(Turn& turn) {
    if (!turn.waiting_) return;
    std::erase(ahead_, &turn);
    std::erase(waiting_, &turn);
    turn.waiting_ = false;
  }
  bool waiting() const { return !ahead_.empty() || !waiting_.empty(); }
  // False: nobody waits.
  bool GiveOne() {
    std::deque<Turn*>& from = ahead_.empty() ? waiting_ : ahead_;
    if (from.empty()) return false;
    Turn* const turn = from.front();
    from.pop_front();
    turn->waiting_ = false;
    turn->take_();
    return true;
  }

 private:
  std::deque<Turn*> ahead_, waiting_;
};

// What is not worth going on with. A queue that is served in its order, and is longer than what it
// serves may take, answers everything just too late. So once a request's time was over before all
// of it was gathered, none is begun that has little of its time left: the others are answered in
// time. That holds for any number of clients, each of which sees its own requests alone
// (client/shedding.h).
class Lateness {
 public:
  // Of a request whose next rows are to be gathered. All times in ns, of one clock.
  bool TooLate(bool begun, int64_t received_ns, int64_t deadline_ns, int64_t now_ns) {
    if (now_ns > deadline_ns) {
      until_ns_ = now_ns + kLastsNs;
      return true;
    }
    return !begun && late(now_ns) && IsAtItsEnd(received_ns, deadline_ns, now_ns);
  }
  // A request is not wanted any more. Its client's clock has come to the deadline a little earlier.
  void OnCancel(int64_t received_ns, int64_t deadline_ns, int64_t now_ns) {
    if (IsAtItsEnd(received_ns, deadline_ns, now_ns)) until_ns_ = now_ns + kLastsNs;
  }
  bool late(int64_t now_ns) const { return now_ns < until_ns_; }

 private:
  static constexpr int64_t kLastsNs = 1'000'000'000;  // since the last one
  // Of its time, what a request must have left: more than gathering and sending take, and no more,
  // as those in between would have been in time.
  static constexpr int64_t kSpareShare = 16;

  static bool IsAtItsEnd(int64_t received_ns, int64_t deadline_ns, int64_t now_ns) {
    return deadline_ns - now_ns < (deadline_ns - received_ns) / kSpareShare;
  }

  int64_t until_ns_ = 0;
};

}  // namespace engram

#endif  // ENGRAM_SERVICE_TURNS_H_

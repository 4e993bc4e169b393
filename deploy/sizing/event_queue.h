// What will happen when, in a simulation.
#ifndef ENGRAM_DEPLOY_SIZING_EVENT_QUEUE_H_
#define ENGRAM_DEPLOY_SIZING_EVENT_QUEUE_H_

#include <cstdint>
#include <queue>
#include <vector>

namespace engram::sizing {

using Nanos = int64_t;  // since the simulation's begin

enum class EventKind : uint8_t {
  kArrival,   // a: worker
  kRequests,  // the first requests of a lookup are at their servers; a: lookup
  kRequest,   // a: attempt
  kServed,    // a: attempt, b: rows of a piece
  kAtClient,  // the same, through the network
  kDone,      // a: attempt, all of whose rows are in place
  kFailed,    // a: attempt, whose connection is gone
  kHedge,     // a: lookup, b: its serial
  kTimeout,   // of the oldest lookups
  kLose,      // a server
  kSilent,    // its clients give its connections up
  kDrain,     // a: replica, of every shard
  kReturn,    // the same
};

struct Event {
  Nanos at = 0;
  uint64_t order = 0;  // of its making, shifted: events of one time happen in it
  uint32_t a = 0;
  uint32_t b = 0;

  EventKind kind() const { return static_cast<EventKind>(order & 0xF); }
  bool operator<(const Event& other) const {  // the earliest on top
    return at != other.at ? at > other.at : order > other.order;
  }
};

class EventQueue {
 public:
  void Push(Nanos at, EventKind kind, uint32_t a, uint32_t b = 0) {
    events_.push({at, (made_++ << 4) | static_cast<uint64_t>(kind), a, b});
  }
  bool empty() const { return events_.empty(); }
  Event Pop() {
    const Event event = events_.top();
    events_.pop();
    return event;
  }
  uint64_t made() const { return made_; }

 private:
  std::priority_queue<Event> events_;
  uint64_t made_ = 0;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_EVENT_QUEUE_H_

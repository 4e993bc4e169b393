// What there is at any time of a simulation: workers, their lookups, the lookups' parts, and what
// servers are asked.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_STATE_H_
#define ENGRAM_DEPLOY_SIZING_SIM_STATE_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "deploy/sizing/event_queue.h"

namespace engram::sizing {

// Things that come and go, by number.
template <typename Thing>
class Slots {
 public:
  uint32_t Take() {
    if (free_.empty()) {
      things_.emplace_back();
      return static_cast<uint32_t>(things_.size() - 1);
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void Release(uint32_t slot) { free_.push_back(slot); }
  Thing& operator[](uint32_t slot) { return things_[slot]; }

 private:
  std::deque<Thing> things_;  // stay where they are
  std::vector<uint32_t> free_;
};

// Rows of one shard, of one lookup.
struct SimPart {
  uint32_t shard = 0;
  uint32_t rows = 0;
  uint32_t tried = 0;     // a bit a replica
  uint32_t attempts = 0;  // that the client waits for
  uint32_t latest = 0;    // the attempt made last, and its server
  uint32_t server = 0;
  bool hedged = false;
  bool done = false;
  Nanos done_at = 0;
  Nanos due = 0;    // when another server is asked as well
  Nanos after = 0;  // that long after the first
};

struct SimLookup {
  uint32_t serial = 0;  // which of those that have had this slot
  uint32_t worker = 0;
  uint32_t users = 0;  // that refer to the slot: attempts, events, and itself until it is finished
  uint32_t parts_left = 0;
  bool finished = false;
  bool measured = false;
  Nanos begun = 0;
  Nanos finished_at = 0;
  std::vector<SimPart> parts;
  std::vector<uint32_t> first;  // attempts that are on their way together
};

enum class AttemptKind : uint8_t { kFirst, kHedge, kTrial };

// One part, asked of one server. At any time in one server's queue, or with one event to come.
struct SimAttempt {
  uint32_t lookup = 0;
  uint32_t part = 0;
  uint32_t server = 0;
  uint32_t rows_to_serve = 0;
  uint32_t rows_to_come = 0;
  AttemptKind kind = AttemptKind::kFirst;
  bool prefill = false;
  bool begun = false;
  bool wakes = false;  // it has found a core idle
  Nanos sent = 0;
  Nanos at_server = 0;
};

struct SimWorker {
  bool prefill = false;
  double wire_share = 1;
  Nanos link_in_free = 0;
  Nanos link_out_free = 0;
  Nanos cpu_free = 0;
  std::vector<uint32_t> open;  // lookups
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_STATE_H_

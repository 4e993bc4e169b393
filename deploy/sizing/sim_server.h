// A server in a simulation: cores behind two queues, a CPU quota, a link.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_SERVER_H_
#define ENGRAM_DEPLOY_SIZING_SIM_SERVER_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "deploy/sizing/event_queue.h"

namespace engram::sizing {

// The kernel's CPU bandwidth control (what a container's CPU limit becomes): in every period the
// threads of a group may run for quota * period together, then stand still until the next one. What
// is left over is lost, but for a little on each CPU (kQuotaCarrySeconds).
class CpuQuota {
 public:
  // `quota` in cores, 0: none. Periods begin at `phase`; at most `carry` is carried over.
  CpuQuota(double quota, Nanos period, Nanos phase, Nanos carry);

  // When `work` of CPU time that begins at `now` is done. Calls come with `now` ascending; work of
  // several cores is given its budget in the order of the calls.
  Nanos Finish(Nanos now, Nanos work);

 private:
  const Nanos budget_;  // of a period; 0: no quota
  const Nanos period_;
  const Nanos phase_;
  const Nanos carry_;
  int64_t current_ = 0;  // the last period of which anything was given
  Nanos left_ = 0;       // of it
};

// What a server has to answer, decode before prefill; prefill's pieces in turns.
class SimServer {
 public:
  SimServer(uint32_t cores, CpuQuota quota) : quota(quota), idle_cores_(cores) {}

  CpuQuota quota;
  Nanos link_free = 0;
  Nanos cpu_used = 0;  // in the measured time
  bool lost = false;   // nothing that it is asked is answered

  void PushNew(uint32_t attempt, bool prefill) { QueueOf(prefill).push_back(attempt); }
  // The rest of one of which a piece was answered: decode goes on with it.
  void PushRest(uint32_t attempt, bool prefill) {
    if (prefill) {
      prefill_.push_back(attempt);
    } else {
      decode_.push_front(attempt);
    }
  }
  std::optional<uint32_t> Pop();
  bool has_decode() const { return !decode_.empty(); }

  bool has_idle_core() const { return idle_cores_ > 0; }
  void TakeCore() { --idle_cores_; }
  void FreeCore() { ++idle_cores_; }

 private:
  std::deque<uint32_t>& QueueOf(bool prefill) { return prefill ? prefill_ : decode_; }

  uint32_t idle_cores_;
  std::deque<uint32_t> decode_, prefill_;  // attempts
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_SERVER_H_

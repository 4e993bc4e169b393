// The lookups of a simulation's clients, from the first request to the last row: asks servers,
// takes answers, asks others when they are late or gone, as client/dispatch.cc does.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_DISPATCH_H_
#define ENGRAM_DEPLOY_SIZING_SIM_DISPATCH_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "deploy/sizing/lookup_pool.h"
#include "deploy/sizing/sim_client.h"
#include "deploy/sizing/sim_state.h"
#include "deploy/sizing/sim_statistics.h"
#include "deploy/sizing/sim_world.h"

namespace engram::sizing {

// Lookups and attempts are named by their slots, parts by their number within the lookup.
class SimDispatch {
 public:
  // All of these must outlive it.
  SimDispatch(SimWorld& world, SimStatistics& statistics, SimClients& clients);

  void Begin(uint32_t worker, const DrawnLookup& drawn);

  // The attempts of a lookup whose requests come to their servers together; forgotten when they
  // have.
  const std::vector<uint32_t>& FirstOf(uint32_t lookup) { return lookups_[lookup].first; }
  void ForgetFirst(uint32_t lookup);

  // Rows of an attempt have come through the network.
  void OnAtClient(uint32_t attempt, uint32_t rows);
  // All its rows are in place, or its connection is gone. As Dispatch::EndAttempt.
  void EndAttempt(uint32_t attempt, bool ok);
  // Some part of the lookup may be late, if the slot is still that lookup's.
  void OnHedge(uint32_t lookup, uint32_t serial);
  // The oldest lookup may have taken too long.
  void OnTimeout();

  // For servers, which read an attempt and note how far they are with it.
  SimAttempt& attempt(uint32_t slot) { return attempts_[slot]; }
  // Whether its rows are still wanted, as far as the server can have heard.
  bool Wants(const SimAttempt& attempt);
  // Called off: the server says so, which costs nobody anything.
  void Drop(uint32_t attempt);
  // Its server is gone. Of a machine that is, the client hears nothing, and goes on waiting.
  void Lose(uint32_t attempt);

 private:
  struct Deadline {
    Nanos at;
    uint32_t lookup;
    uint32_t serial;
  };

  void AskFirst(uint32_t slot, uint32_t number, Nanos leaves);
  // Its request is not on its way yet.
  uint32_t Ask(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind, Nanos sent);
  void AskNow(uint32_t slot, uint32_t number, uint32_t server, AttemptKind kind);
  // False: there is nobody left to ask.
  bool Retry(uint32_t slot, uint32_t number);
  void Hedge(uint32_t slot, uint32_t number, bool also_aside);

  // Whoever was asked first has been slower by more than the delay.
  void StrikeOthers(const SimPart& part, uint32_t winner, uint32_t client);
  void StrikeIfSilent(uint32_t client, const SimPart& part);
  // Others are asked for what it has not answered.
  void OnPutAside(uint32_t client, uint32_t server);

  void FinishPart(uint32_t slot, SimPart& part);
  void FinishLookup(uint32_t slot, bool ok);
  bool IsOver(const Deadline& deadline);
  // One user of it less.
  void Release(uint32_t slot);

  SimWorld& world_;
  SimStatistics& statistics_;
  SimClients& clients_;
  std::vector<SimWorker> workers_;
  Slots<SimLookup> lookups_;
  Slots<SimAttempt> attempts_;
  std::deque<Deadline> oldest_;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_DISPATCH_H_

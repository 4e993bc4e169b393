// What the client's rules say in a simulation: whom to ask, when to ask another as well, whom to
// put aside. The rules of client/server_set.cc and client/dispatch.cc; budgets, estimates and
// health are the client's own classes.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_CLIENT_H_
#define ENGRAM_DEPLOY_SIZING_SIM_CLIENT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "client/hedging.h"
#include "client/server_health.h"
#include "deploy/sizing/event_queue.h"

namespace engram::sizing {

struct HedgeRules {
  double share = 0.05;  // of second requests; 0: none
  Nanos after_least = 1'000'000;
};

// Server s of shard h is h * replicas + s. For one thread.
class SimClients {
 public:
  SimClients(uint32_t clients, uint32_t shards, uint32_t replicas, const HedgeRules& rules);

  // Servers that take requests; what is not usable is passed by.
  void SetUsable(uint32_t server, bool usable) { usable_[server] = usable; }

  // Of the shard: usable, not in `tried` (a bit a replica), healthy rather than not, with the
  // fewest bytes to answer to this client; in turn among equals.
  std::optional<uint32_t> Pick(uint32_t client, uint32_t shard, uint32_t tried);
  // One on probation that has nothing to do.
  std::optional<uint32_t> PickTrial(uint32_t client, uint32_t shard, Nanos now);

  void AddRows(uint32_t client, uint32_t server, uint32_t rows) {
    PeerOf(client, server).rows += rows;
  }
  void TakeRows(uint32_t client, uint32_t server, uint32_t rows) {
    PeerOf(client, server).rows -= rows;
  }
  bool healthy(uint32_t client, uint32_t server) { return PeerOf(client, server).health.healthy(); }
  Nanos answered_at(uint32_t client, uint32_t server) { return PeerOf(client, server).answered_at; }
  SecondRequestBudget& budget(uint32_t client) { return budgets_[client]; }

  // After what time an answer of so many rows counts as late: by the quickest healthy server of the
  // shard, `but` left out. nullopt: not known.
  std::optional<Nanos> LateAfter(uint32_t client, uint32_t shard, uint32_t rows,
                                 std::optional<uint32_t> but);
  // When to ask a second server; `time_left` of the lookup counts where nothing is known.
  Nanos HedgeAfter(uint32_t client, uint32_t shard, uint32_t rows, Nanos time_left);

  // True: this has put the server aside.
  bool Strike(uint32_t client, uint32_t server, Nanos now);
  // An answer came. `won`: its rows were still wanted. True: this has put the server aside.
  bool OnAnswer(uint32_t client, uint32_t server, uint32_t shard, uint32_t rows, Nanos took,
                bool won, bool trial, Nanos now);

  bool hedges() const { return rules_.share > 0 && replicas_ > 1; }

 private:
  struct Peer {
    ServerHealth health;
    Nanos answered_at = -1;
    uint32_t rows = 0;  // still to come
  };
  Peer& PeerOf(uint32_t client, uint32_t server) { return peers_[Index(client, server)]; }
  size_t Index(uint32_t client, uint32_t server) const { return client * usable_.size() + server; }

  const uint32_t replicas_;
  const HedgeRules rules_;
  std::vector<bool> usable_;
  std::vector<Peer> peers_;         // [clients, servers]
  std::vector<AnswerTimes> times_;  // the same; none where no server has a replica
  std::vector<SecondRequestBudget> budgets_;
  std::vector<uint32_t> turns_;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_CLIENT_H_

#include "client/server_health.h"

#include <algorithm>

namespace engram {

void ServerHealth::OnSuccess(absl::Time now) {
  strikes_ = 0;
  if (state(now) != State::kProbation || ++trials_ < kTrials) return;
  ejected_ = false;
  next_ = kFirstEjection;
}

bool ServerHealth::OnStrike(absl::Time now) {
  switch (state(now)) {
    case State::kEjected:
      return false;  // what it had been asked before
    case State::kHealthy:
      if (++strikes_ < kStrikes) return false;
      break;
    case State::kProbation:
      break;
  }
  strikes_ = 0;
  trials_ = 0;
  ejected_ = true;
  until_ = now + next_;
  next_ = std::min(2 * next_, kLastEjection);
  return true;
}

}  // namespace engram

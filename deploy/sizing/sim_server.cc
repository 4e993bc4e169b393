#include "deploy/sizing/sim_server.h"

#include <algorithm>
#include <cmath>

namespace engram::sizing {

CpuQuota::CpuQuota(double quota, Nanos period, Nanos phase, Nanos carry)
    : budget_(static_cast<Nanos>(std::llround(quota * static_cast<double>(period)))),
      period_(period),
      phase_(phase % period - period),
      carry_(carry) {}

Nanos CpuQuota::Finish(Nanos now, Nanos work) {
  if (budget_ == 0) return now + work;
  while (true) {
    int64_t period = (now - phase_) / period_;
    if (period < current_) {  // Another core has used up what there was before.
      period = current_;
      now = phase_ + period * period_;
    }
    if (period > current_) {
      left_ = budget_ + std::min(left_, carry_);
      current_ = period;
    }
    const Nanos end = phase_ + (period + 1) * period_;
    const Nanos run = std::min({work, left_, end - now});
    left_ -= run;
    work -= run;
    if (work == 0) return now + run;
    now = end;
  }
}

std::optional<uint32_t> SimServer::Pop() {
  std::deque<uint32_t>& queue = decode_.empty() ? prefill_ : decode_;
  if (queue.empty()) return std::nullopt;
  const uint32_t attempt = queue.front();
  queue.pop_front();
  return attempt;
}

}  // namespace engram::sizing

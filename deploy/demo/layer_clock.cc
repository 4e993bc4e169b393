#include "deploy/demo/layer_clock.h"

#include <thread>

namespace engram::demo {

void LayerClock::SleepUntilLayer(uint32_t layer) const {
  std::this_thread::sleep_until(start_ + step_ * layer / layers_);
}

void LayerClock::FinishStep() {
  SleepUntilLayer(layers_);
  start_ += step_;
}

}  // namespace engram::demo

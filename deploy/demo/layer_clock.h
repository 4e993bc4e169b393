// A model's forward pass as far as time goes: layers that begin when a GPU would begin them.
#ifndef ENGRAM_DEPLOY_DEMO_LAYER_CLOCK_H_
#define ENGRAM_DEPLOY_DEMO_LAYER_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace engram::demo {

// Steps follow each other without a gap; layer L of a step begins L / layers of the step's time
// after the step, plus what the step was stalled before. Times are absolute: sleeping a little too
// long at one layer does not move the next. For one thread.
class LayerClock {
 public:
  using Clock = std::chrono::steady_clock;

  // The first step begins now.
  LayerClock(uint32_t layers, Clock::duration step) : layers_(layers), step_(step) {}

  // Sleeps until the layer begins.
  void SleepUntilLayer(uint32_t layer) const;

  // Rows came `stall` after the layer could have begun: it and everything after moves.
  void Stall(Clock::duration stall) { start_ += stall; }

  // Sleeps until the step's last layer is over; the next step begins then.
  void FinishStep();

 private:
  const uint32_t layers_;
  const Clock::duration step_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace engram::demo

#endif  // ENGRAM_DEPLOY_DEMO_LAYER_CLOCK_H_

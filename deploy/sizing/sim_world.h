// What all parts of a simulation share: its scenario, time, chance, and what will happen when.
#ifndef ENGRAM_DEPLOY_SIZING_SIM_WORLD_H_
#define ENGRAM_DEPLOY_SIZING_SIM_WORLD_H_

#include <cmath>
#include <cstdint>
#include <random>

#include "deploy/sizing/event_queue.h"
#include "deploy/sizing/scenario.h"

namespace engram::sizing {

inline Nanos ToNanos(double seconds) { return static_cast<Nanos>(std::llround(seconds * 1e9)); }
inline double Seconds(Nanos ns) { return static_cast<double>(ns) * 1e-9; }

// `scenario` must outlive it.
struct SimWorld {
  explicit SimWorld(const Scenario& scenario)
      : scenario(scenario),
        random(scenario.seed),
        half_rtt(ToNanos(scenario.network.rtt_us * 0.5e-6)),
        begin(ToNanos(scenario.warm_up_s)),
        end(begin + ToNanos(scenario.seconds)) {}

  const Scenario& scenario;
  std::mt19937_64 random;
  const Nanos half_rtt;
  const Nanos begin, end;  // of the measured time
  Nanos now = 0;
  EventQueue events;

  bool Measured() const { return now >= begin && now < end; }
  uint64_t BytesOf(uint64_t rows) const { return rows * scenario.row_bytes; }
  Nanos LinkTime(uint64_t bytes) const {
    return ToNanos(scenario.network.Seconds(static_cast<double>(bytes)));
  }
  // 0 <= it < 1.
  double Uniform() { return static_cast<double>(random() >> 11) * 0x1p-53; }
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_SIM_WORLD_H_

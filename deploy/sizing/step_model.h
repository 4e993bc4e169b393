// How long a lookup takes, and what its waiting costs a model's step. Pure arithmetic; formulas and
// their sources also stand in deploy/SIZING.md.
#ifndef ENGRAM_DEPLOY_SIZING_STEP_MODEL_H_
#define ENGRAM_DEPLOY_SIZING_STEP_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "deploy/sizing/costs.h"
#include "deploy/sizing/step_shape.h"

namespace engram::sizing {

// One layer's rows of one step.
struct LayerLoad {
  uint32_t layer = 0;
  double rows = 0;           // asked for: tokens * columns
  double wire_rows = 0;      // of them, which travel
  double servers = 1;        // that they come from, expected (proto/shard_layout.h)
  double largest_share = 1;  // of the wire's rows, by the busiest of those

  // To one server, and to all. What exceeds kRowsPerRequest becomes several.
  double RequestsOfBusiest() const;
  double Requests() const { return servers * RequestsOfBusiest(); }
};

// What rows pass, one piece of an answer behind the other, all at the same time.
enum class Stage {
  kServer,      // CPU of the server that has the most to answer
  kServerLink,  // its link
  kClientLink,  // where the answers of all servers meet
  kClient,      // CPU of the client's I/O thread
};
const char* NameOf(Stage stage);

// How long each stage is busy with a lookup's rows.
struct StageTimes {
  std::array<double, 4> seconds{};  // by Stage
  // Of an answer, what has passed one stage before the next begins: kOverlapBytes of it at most.
  double apart = 1;

  double operator[](Stage stage) const { return seconds[static_cast<size_t>(stage)]; }
  double& operator[](Stage stage) { return seconds[static_cast<size_t>(stage)]; }
  double sum() const;
  Stage longest() const;
};

// What others take of the server's CPU and of its link, 0 <= busy < 1. A server turns from
// stream to stream with every piece, so that it is shared as in M/G/1 processor sharing: work x
// takes x / (1 - busy) (Kleinrock, Queueing Systems II, 1976, 4.4).
struct OthersLoad {
  double cpu = 0;
  double link = 0;
};
StageTimes StagesOf(const LayerLoad& load, const Costs& costs, const Network& network,
                    uint32_t row_bytes, const OthersLoad& others = {});

// From asking to the last row in place: what any lookup takes, a round trip, the longest stage, and
// of the others the time of what does not overlap (a pipeline's fill and drain). `before`: how long
// the stages are busy with rows that were asked for at the same time and go first.
double FetchSeconds(const StageTimes& stages, const Costs& costs, const Network& network,
                    const StageTimes& before = {});

struct LayerWait {
  uint32_t layer = 0;
  double fetch_s = 0;  // from its own asking
  double due_s = 0;  // when the layer could begin, after the step's begin, earlier stalls included
  double arrive_s = 0;           // when its rows are in place
  double stall_s = 0;            // arrive - due, 0 where below kLeastStall
  Stage bound = Stage::kServer;  // the longest stage
};

struct StepTime {
  double nominal_s = 0;
  double stall_s = 0;  // of all layers
  // Of one step behind the other: nominal + stall, or what the busiest stage takes for a step, if
  // that is more.
  double step_s = 0;
  std::vector<LayerWait> layers;

  double cost_s() const { return step_s - nominal_s; }
};

// As engram-bench overlap counts: a shorter wait is none.
inline constexpr double kLeastStallSeconds = 10e-6;

struct LayerStages {
  uint32_t layer = 0;
  StageTimes stages;
};

// Rows asked for when the model is at their layer (variant `needed` of engram-bench overlap):
// every layer waits for all of its fetch. `layers` ascend.
StepTime PredictNeeded(const StepShape& shape, const std::vector<LayerStages>& layers,
                       const Costs& costs, const Network& network);

// Rows of all layers asked for when the ids are known (variant `ahead`), the nearer layer first:
// servers answer in that order, so that a layer's rows come behind those of the layers before; what
// is ready together leaves together, so that the first kOverlapBytes of the layer behind come
// along.
StepTime PredictAhead(const StepShape& shape, const std::vector<LayerStages>& layers,
                      const Costs& costs, const Network& network);

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_STEP_MODEL_H_

// The two kinds of forward pass that an inference engine runs, and how long they wait for rows.
//
// The model is 40 layers of equal time, Engram tables at the layers the servers hold (1 and 14):
//   prefill  one chunk of 8,192 tokens of one sequence, 300 ms
//   decode   100 steps of 64 sequences x 1 token, 12 ms each (a step on 4x RTX PRO 6000)
// Each runs twice:
//   ahead    rows of all layers are asked for as soon as their tokens are known: a prefill chunk's
//            when the chunk before it begins, a decode step's when the step begins, before layer 0
//   needed   a layer's rows are asked for when the model has reached that layer
// A layer's stall is how long the worker is held up at it: inside Wait, and when fetched as needed
// inside hashing and submit too. A stall moves everything after it. That the worker itself wakes
// late from its sleep is no stall: a GPU does not sleep.
#ifndef ENGRAM_DEPLOY_DEMO_SHAPES_H_
#define ENGRAM_DEPLOY_DEMO_SHAPES_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "deploy/demo/row_check.h"

namespace engram::demo {

inline constexpr uint32_t kModelLayers = 40;
inline constexpr uint32_t kChunkTokens = 8192;
inline constexpr uint32_t kContextTokens = 4096;  // the chunk's sequence begins so much earlier
inline constexpr uint32_t kPrefillMs = 300;
inline constexpr uint32_t kSequences = 64;
inline constexpr uint32_t kPromptTokens = 16;  // before each sequence's first decode step
inline constexpr uint32_t kDecodeSteps = 100;
inline constexpr uint32_t kDecodeMs = 12;

enum class Fetch { kAhead, kNeeded };

struct ShapeResult {
  uint64_t rows = 0;        // received
  uint64_t wrong_rows = 0;  // of them, not the checkpoint's
  uint32_t steps = 0;
  std::map<uint32_t, std::vector<double>> stall_ms;  // by layer, one per step

  double TotalStallMs() const;
};

// What every run needs; borrowed.
struct Bench {
  Client& client;
  const RowCheck& check;
};

// `tokens` is one sequence of at least kContextTokens + kChunkTokens tokens.
// The codes of Client::SubmitTokens and Ticket::Wait; InvalidArgument: too few tokens.
absl::StatusOr<ShapeResult> RunPrefill(const Bench& bench, Fetch fetch,
                                       std::span<const uint32_t> tokens);

// The sequences are windows of `tokens`, evenly apart.
// The codes of Client::SubmitRows and Ticket::Wait; InvalidArgument: too few tokens.
absl::StatusOr<ShapeResult> RunDecode(const Bench& bench, Fetch fetch,
                                      std::span<const uint32_t> tokens);

}  // namespace engram::demo

#endif  // ENGRAM_DEPLOY_DEMO_SHAPES_H_

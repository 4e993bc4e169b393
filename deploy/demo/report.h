// What the demo has measured, in words and as the figures of its last line.
#ifndef ENGRAM_DEPLOY_DEMO_REPORT_H_
#define ENGRAM_DEPLOY_DEMO_REPORT_H_

#include <cstdint>
#include <string>

#include "deploy/demo/timed_memory.h"
#include "nlohmann/json.hpp"

namespace engram::demo {

// The same steps twice, rows fetched ahead and as needed.
struct Pair {
  RowFigures ahead;
  RowFigures needed;
};

struct Measured {
  Pair prefill;  // a step is a window of the text
  Pair decode;   // a step is a byte of what is written
  uint32_t row_bytes = 0;
  uint64_t bytes_read = 0;
  double ppl_memory = 0;   // rows from the servers
  double ppl_zeroed = 0;   // every row zeros
  double ppl_without = 0;  // the twin without memory
  // Positions whose logits by remote rows were held against those by local rows, and how many were
  // not the same bits.
  uint64_t logits_compared = 0;
  uint64_t logits_differ = 0;
};

// {"rows", "bytes", "wrong_rows", "rows_per_s" (while a layer waits for them, fetched as needed),
// "stall_ms_ahead", "stall_ms_needed", "ppl_memory", "ppl_zeroed", "ppl_without", "logits_equal",
// "logits_compared", "prefill", "decode": {"ahead", "needed": {"rows", "wrong_rows", "steps",
// "stall_ms", "layers": {"<layer>": {"stall_ms_p50", "stall_ms_p99"}}}}}
nlohmann::json Figures(const Measured& measured);

std::string Summary(const Measured& measured, const nlohmann::json& figures);

}  // namespace engram::demo

#endif  // ENGRAM_DEPLOY_DEMO_REPORT_H_

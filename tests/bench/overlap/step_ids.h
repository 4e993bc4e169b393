// The row ids that a shape's steps ask for, hashed from real text.
#ifndef ENGRAM_TESTS_BENCH_OVERLAP_STEP_IDS_H_
#define ENGRAM_TESTS_BENCH_OVERLAP_STEP_IDS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/geometry.h"
#include "proto/token_map.h"
#include "proto/token_trace.h"
#include "tests/bench/overlap/shape.h"

namespace engram::bench {

// By layer, in the geometry's order: [sequences, tokens a sequence, columns].
using StepIds = std::vector<std::vector<int64_t>>;

// The steps of one shape; a run goes round.
class StepPool {
 public:
  // The trace's text is one long sequence, of which the shape's sequences are windows, evenly
  // apart. Each step takes a window's next tokens, so that ids repeat as real text does and no step
  // comes twice before the text has ended (at most `max_steps`). Without a token map, token ids
  // modulo the compressed vocabulary stand for compressed ids.
  // InvalidArgument: the text is too short for one step; a token beyond the token map.
  static absl::StatusOr<StepPool> Hash(const Geometry& geometry, const TokenMap* map,
                                       const TokenTrace& trace, const Shape& shape,
                                       size_t max_steps);

  const StepIds& operator[](size_t step) const { return steps_[step % steps_.size()]; }
  size_t size() const { return steps_.size(); }

 private:
  std::vector<StepIds> steps_;
};

}  // namespace engram::bench

#endif  // ENGRAM_TESTS_BENCH_OVERLAP_STEP_IDS_H_

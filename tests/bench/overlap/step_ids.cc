#include "tests/bench/overlap/step_ids.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/row_ids.h"

namespace engram::bench {
namespace {

absl::StatusOr<uint32_t> Compress(const Geometry& geometry, const TokenMap* map, uint32_t token) {
  if (map != nullptr) return map->Compress(token);
  return token % geometry.params().compressed_vocab;
}

absl::StatusOr<std::vector<uint32_t>> CompressText(const Geometry& geometry, const TokenMap* map,
                                                   const TokenTrace& trace) {
  std::vector<uint32_t> text;
  for (const std::vector<uint32_t>& sequence : trace) {
    for (const uint32_t token : sequence) {
      ASSIGN_OR_RETURN(text.emplace_back(), Compress(geometry, map, token));
    }
  }
  return text;
}

}  // namespace

absl::StatusOr<StepPool> StepPool::Hash(const Geometry& geometry, const TokenMap* map,
                                        const TokenTrace& trace, const Shape& shape,
                                        size_t max_steps) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> text, CompressText(geometry, map, trace));
  ASSIGN_OR_RETURN(const uint32_t pad, Compress(geometry, map, geometry.params().pad_token));
  ASSIGN_OR_RETURN(const RowHasher hasher, RowHasher::Create(geometry, pad));
  const size_t window = text.size() / shape.sequences;
  const size_t chunk = shape.tokens_per_sequence;
  if (window < chunk) {
    return absl::InvalidArgumentError(absl::StrCat("the trace has ", text.size(),
                                                   " tokens where a step of shape ", shape.name,
                                                   " needs ", shape.tokens()));
  }
  StepPool pool;
  pool.steps_.resize(
      std::min(max_steps, window / chunk),
      StepIds(hasher.layers(), std::vector<int64_t>(size_t{shape.tokens()} * hasher.columns())));
  for (size_t sequence = 0; sequence < shape.sequences; ++sequence) {
    LookBack state;
    for (size_t step = 0; step < pool.steps_.size(); ++step) {
      const auto tokens = std::span(text).subspan(sequence * window + step * chunk, chunk);
      for (size_t layer = 0; layer < hasher.layers(); ++layer) {
        const size_t ids = chunk * hasher.columns();
        hasher.HashChunk(layer, tokens, {}, state,
                         std::span(pool.steps_[step][layer]).subspan(sequence * ids, ids));
      }
      hasher.Advance(tokens, {}, state);
    }
  }
  return pool;
}

}  // namespace engram::bench

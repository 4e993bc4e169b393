// Where a decoder's rows come from: memory servers, or the checkpoint beside its weights.
#ifndef ENGRAM_DEPLOY_MODEL_MEMORY_H_
#define ENGRAM_DEPLOY_MODEL_MEMORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "proto/geometry.h"
#include "proto/row_ids.h"
#include "proto/row_layout.h"

namespace engram::model {

// The rows of some tokens, on their way. To be used by one thread.
class RowsAhead {
 public:
  virtual ~RowsAhead() = default;
  // [tokens, columns, row_bytes] of the layer, valid while this lives; waits until they are there.
  virtual absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) = 0;
};

class Memory {
 public:
  virtual ~Memory() = default;
  virtual const Geometry& geometry() const = 0;
  virtual const RowLayout& layout() const = 0;
  // Asks for the rows of the next `tokens` (borrowed until the rows are there) of the sequence
  // whose look-back is `state`, in all layers, and returns at once.
  virtual absl::StatusOr<std::unique_ptr<RowsAhead>> Fetch(std::span<const uint32_t> tokens,
                                                           LookBack& state) = 0;
};

// From memory servers. FailedPrecondition: they have no token map. Codes as Client::Connect.
absl::StatusOr<std::unique_ptr<Memory>> ConnectMemory(const ClientOptions& options);

// What the local rows are made of, to see what they are worth.
enum class LocalRows {
  kRows,
  kZeros,     // every row is zeros: a model that knows how to read, and has nothing to read
  kShuffled,  // within a layer rows change places: as many bytes, which mean nothing
};

// From the checkpoint in `directory`. Codes as Checkpoint::Open; FailedPrecondition: it has no
// tokenizer.
absl::StatusOr<std::unique_ptr<Memory>> OpenMemory(const std::string& directory,
                                                   LocalRows rows = LocalRows::kRows);

}  // namespace engram::model

#endif  // ENGRAM_DEPLOY_MODEL_MEMORY_H_

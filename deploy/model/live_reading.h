// A text that is read again and again while the tables on the servers change: what a published
// delta does to a model that runs.
#ifndef ENGRAM_DEPLOY_MODEL_LIVE_READING_H_
#define ENGRAM_DEPLOY_MODEL_LIVE_READING_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "deploy/model/decoder.h"
#include "deploy/model/memory.h"

namespace engram::model {

// Tables of one geometry, of which a step's rows may be.
class KnownTables {
 public:
  // Codes as OpenMemory; InvalidArgument: none.
  static absl::StatusOr<KnownTables> Open(const std::vector<std::string>& checkpoints);

  // The checkpoint that all rows of a step are of, in every layer; `tokens` are the step's, from
  // the start of their sequence. Where rows are the same in several, the first of them. DataLoss,
  // saying of each layer whose its rows are: they are not all of one.
  absl::StatusOr<std::string> TableOf(std::span<const uint32_t> tokens, RowsAhead& rows) const;

 private:
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<Memory>> tables_;
};

// One step: a window of the text in one forward pass.
struct LiveStep {
  size_t step = 0;    // from 0
  size_t window = 0;  // of the text
  double nats = 0;    // a byte
  std::string table;  // the checkpoint that all of its rows are of
};

// Reads the text's windows, then from its beginning again, until `stop` says so after a pass.
// Codes as Read and KnownTables::TableOf.
absl::Status ReadLive(const Decoder& decoder, Memory& memory, const KnownTables& tables,
                      absl::string_view text, const std::function<void(const LiveStep&)>& each,
                      const std::function<bool()>& stop);

}  // namespace engram::model

#endif  // ENGRAM_DEPLOY_MODEL_LIVE_READING_H_

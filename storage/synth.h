// Synthetic checkpoints in the layouts of real models, whose every row can be recomputed
// (storage/synth_rows.h).
#ifndef ENGRAM_STORAGE_SYNTH_H_
#define ENGRAM_STORAGE_SYNTH_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "proto/row_layout.h"
#include "storage/synth_model.h"

namespace engram {

struct SynthOptions {
  std::string out;  // directory; made if need be, and must hold no checkpoint yet
  SynthModel model = SynthModel::kV41Flash;
  std::optional<uint64_t> bucket_floor;  // none: the real model's (V4.1-Flash: 188.8 GiB of tables)
  uint64_t seed = 0;  // of the row bytes; the seed of the geometry's hash stays 0
  ValueType paper_values = ValueType::kBf16;  // kBf16, kF16 or kF32; of kPaper alone
  // A tokenizer.json to copy (for V4.1 padded to its 129,280 ids), which then sets the compressed
  // vocabulary; empty: none, and the vocabulary is the real model's.
  std::string tokenizer;
  // Writes StatedRows alone and leaves holes for the others, so that full-size tables fit on a
  // small disk (of a file system that has holes).
  bool sparse = false;
};

// Writes a checkpoint: config.json, the table's safetensors file or files, for V4.1 an index that
// also names tensors of files that are not there, as for a server that was given the table files
// alone; tokenizer.json where one was given.
// AlreadyExists: `out` holds a checkpoint or part of one. InvalidArgument: a bucket floor out of
// bounds, or a tokenizer that cannot be read as one. The system's code where writing fails, a full
// disk among it: what had been written is then removed. config.json comes last: a directory that
// lacks it is no checkpoint, whatever stopped the writer.
absl::Status Synthesize(const SynthOptions& options);

}  // namespace engram

#endif  // ENGRAM_STORAGE_SYNTH_H_

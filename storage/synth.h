// Synthetic checkpoints in the layout of DeepSeek-V4.1-Flash, whose every row can be recomputed.
#ifndef ENGRAM_STORAGE_SYNTH_H_
#define ENGRAM_STORAGE_SYNTH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace engram {

struct SynthOptions {
  std::string out;  // directory; made if need be, and must hold no checkpoint yet
  uint64_t bucket_floor = 16'000'000;  // the real model's: 188.8 GiB of tables
  uint64_t seed = 0;                   // of the row bytes; the seed of the geometry's hash stays 0
  std::string tokenizer;  // a tokenizer.json to copy, padded to V4.1's 129,280 ids; empty: none,
                          // and the compressed vocabulary is the real model's 99,092
};

// Bytes of a synthetic row: 256 fp8 e4m3 values, then 8 ue8m0 scales.
inline constexpr uint32_t kSynthRowBytes = 264;

// Writes row `row` (global within its layer) of the layer with id `layer`, as it is served.
//
// All arithmetic is modulo 2^64, with G = 0x9E3779B97F4A7C15 and SplitMix64's finalizer
//   mix(x): x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
//           x ^= x >> 31
//   key     = mix(mix(mix(seed + G) + layer + G) + row + G)
//   word[i] = mix(key + (i + 1) * G), i = 0 .. 32
// Bytes 8 i .. 8 i + 7 of the row are word[i], little-endian. Of the value bytes (i < 32), those
// that would be an e4m3 NaN lose their lowest bit: 0x7F becomes 0x7E, 0xFF becomes 0xFE. A scale
// byte b (i = 32) becomes 118 + (b & 15). In numpy, for one row:
//   words = mix(key + np.arange(1, 34, dtype=np.uint64) * G)
//   row = words.astype("<u8").view(np.uint8)
//   row[:256] -= (row[:256] & 0x7F) == 0x7F
//   row[256:] = 118 + (row[256:] & 15)
void SynthRow(uint64_t seed, uint32_t layer, uint64_t row, uint8_t out[kSynthRowBytes]);

// Writes a checkpoint: config.json, two safetensors files (one per layer) and an index that also
// names tensors of files that are not there, as for a server that was given the table files alone;
// tokenizer.json where one was given.
// AlreadyExists: `out` holds a checkpoint or part of one. InvalidArgument: a bucket floor out of
// bounds, or a tokenizer that cannot be read as one. The system's code where writing fails, a full
// disk among it: what had been written is then removed. config.json comes last: a directory that
// lacks it is no checkpoint, whatever stopped the writer.
absl::Status SynthesizeV41(const SynthOptions& options);

}  // namespace engram

#endif  // ENGRAM_STORAGE_SYNTH_H_
